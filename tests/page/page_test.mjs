// The chat page in a real browser, against ds4-server with a scripted model.
//
//   npm install --no-package-lock && DS4_BIN=../../build/release/bin npm test
//
// needs Debian's chromium (CHROMIUM names another one).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const bin = path.resolve(process.env.DS4_BIN ?? path.join(root, 'build/release/bin'));

// ---- The model's script ----

const counting = Array.from({ length: 3000 }, (_, i) => i).join(' ');
const hostile = 'Look: <script>window.harmed = 1</script> <img src=x onerror="window.harmed = 2"> ' +
  '[link](javascript:window.harmed=3) `<b>` end';
const formatted = `# Title

Some *italic* and **bold** words, naïve 日本語 🙂.

- one
- two
  1. deep
     - deeper

\`\`\`python
if a < b:
    print("*no*")  # and on, and on, as far as no phone is wide
\`\`\`

| a | b |
|---|---|
| 1 | \`x\` |

> quoted

See [here](https://example.com/x).`;

const rules = [
  { after: 'What is 2+2?<｜Assistant｜><think>', say: 'Two and two.</think>It is **4**.' },
  { after: 'And 3+3?<｜Assistant｜><think>', say: 'Three and three.</think>It is 6.' },
  { after: 'What is 2+2?<｜Assistant｜></think>', say: 'It is 4.' },
  { after: 'And 3+3?<｜Assistant｜></think>', say: 'It is 6.' },
  { after: 'Say it plainly.<｜Assistant｜></think>', say: 'Plainly said.' },
  { after: 'Count.<｜Assistant｜><think>', say: `Easy.</think>${counting}` },
  { after: 'Be hostile.<｜Assistant｜><think>', say: `${hostile}</think>${hostile}` },
  { after: 'Format.<｜Assistant｜><think>', say: `Formats.</think>${formatted}` },
  { after: 'Break.<｜Assistant｜><think>', say: 'Well.</think>This is where', fail: 'request' },
];

// ---- Server and browser ----

const directory = mkdtempSync(path.join(tmpdir(), 'ds4-page-'));
const servers = [];
const contexts = [];
let browser;

// Starts the server and waits for its address.
async function serve(...options) {
  const script = path.join(directory, `script-${servers.length}.json`);
  const tokenizer = path.relative(directory, path.join(root, 'models/ds4-tiny.gguf'));
  writeFileSync(script, JSON.stringify({ tokenizer, context: 32768, decode_us: 2000, prefill_us: 2000, rules }));
  const process = spawn(path.join(bin, 'scripted-server'), ['-m', script, '--port', '0', ...options],
                        { stdio: ['ignore', 'ignore', 'pipe'] });
  servers.push(process);
  let said = '';
  for await (const line of createInterface({ input: process.stderr })) {
    const url = /listening on (http:\S+)/.exec(line)?.[1];
    if (url) {
      process.stderr.resume();  // a full pipe would block the server
      return url;
    }
    said += `${line}\n`;
  }
  throw new Error(`scripted-server ended: ${said}`);
}

// A page of its own profile, which remembers what went wrong in it.
async function openPage(url, prepare = async () => {}) {
  const context = await browser.createBrowserContext();
  contexts.push(context);
  const page = await context.newPage();
  page.setDefaultTimeout(5000);
  page.failures = [];
  page.on('console', (message) => message.type() === 'error' && page.failures.push(message.text()));
  page.on('pageerror', (error) => page.failures.push(String(error)));
  page.on('request', (request) => {
    const isOwn = request.url().startsWith(`${url}/`) || request.url().startsWith('data:');
    if (!isOwn) page.failures.push(`external request: ${request.url()}`);
  });
  await prepare(page);
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector('#model').textContent !== '…');
  return page;
}

const ask = async (page, question) => {
  await page.focus('#question');
  await page.keyboard.type(question);
  await page.keyboard.press('Enter');
};
const isOver = (page) => page.waitForSelector('.answer:last-child[aria-busy="false"]');
const askAndWait = async (page, question) => {
  await ask(page, question);
  await isOver(page);
};
const text = (page, selector) => page.$$eval(selector, (all) => all.at(-1)?.textContent);
const lengthOf = async (page) => (await text(page, '.answer .text')).length;
const busySlots = async (url) => {
  const { slots } = await (await fetch(`${url}/v1/status`)).json();
  return slots.filter((slot) => slot.phase !== 'free').length;
};

// The longest that stopping may take to reach the engine.
const patience = 1000;
async function becomesIdle(url) {
  for (const start = Date.now(); Date.now() - start < patience;) {
    if (await busySlots(url) === 0) return true;
  }
  return false;
}

let url;

before(async () => {
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
  url = await serve();
});

// A page left open would go on reading its answer.
afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
});

after(async () => {
  await browser?.close();
  for (const server of servers) server.kill();
  rmSync(directory, { recursive: true });
});

// ---- Tests ----

describe('a chat', () => {
  test('is held with the keyboard alone, and shows reasoning, answer and counts', async () => {
    const page = await openPage(url);
    await page.keyboard.type('What is 2+2?');  // the field has the focus from the start
    await page.keyboard.press('Enter');
    await isOver(page);
    assert.equal(await text(page, '.user'), 'What is 2+2?');
    assert.equal(await text(page, '.answer .text'), 'It is 4.');
    assert.equal(await text(page, '.answer .text strong'), '4');
    assert.equal(await page.$eval('details.thoughts', (details) => details.open), false);
    assert.equal(await text(page, 'details.thoughts div'), 'Two and two.');
    assert.match(await text(page, 'details.thoughts summary'), /^Thought for \d/);
    assert.match(await text(page, '.stats'), /\d+ tokens.*tokens\/s.*first after .* s.*prompt \d+ tokens, \d+ cached/);

    const request = page.waitForRequest((r) => r.url().endsWith('/chat/completions'));
    await page.keyboard.type('And 3+3?');
    await page.keyboard.press('Enter');
    assert.deepEqual(JSON.parse((await request).postData()).messages[1],
                     { role: 'assistant', content: 'It is **4**.', reasoning_content: 'Two and two.' });
    await isOver(page);
    assert.equal(await text(page, '.answer .text'), 'It is 6.');
    assert.deepEqual(page.failures, []);
  });

  test('tells how much of the prompt was cached', async () => {
    // Without thinking: with it, a prompt leaves out the reasoning before the last question.
    const page = await openPage(url);
    await page.select('#thinking', 'off');
    await askAndWait(page, 'What is 2+2?');
    await askAndWait(page, 'And 3+3?');
    assert.equal(await text(page, '.answer .text'), 'It is 6.');
    assert.match(await text(page, '.stats'), /prompt \d+ tokens, [1-9]\d* cached/);
  });

  test('appears as it is written', async () => {
    const page = await openPage(url);
    await ask(page, 'Count.');
    const lengths = [];
    for (let last = 0; lengths.length < 4;) {
      await page.waitForFunction((n) => (document.querySelector('.text')?.textContent.length ?? 0) > n, {}, last);
      lengths.push(last = await lengthOf(page));
    }
    assert.equal(await page.$eval('.answer', (answer) => answer.ariaBusy), 'true');
    assert.ok(counting.startsWith((await text(page, '.answer .text'))));
    assert.ok(lengths.at(-1) < counting.length);
  });

  test('survives a reload', async () => {
    const page = await openPage(url);
    await askAndWait(page, 'What is 2+2?');
    const stats = await text(page, '.stats');
    await page.reload();
    assert.equal(await text(page, '.user'), 'What is 2+2?');
    assert.equal(await text(page, '.answer .text'), 'It is 4.');
    assert.equal(await text(page, '.stats'), stats);
    await askAndWait(page, 'And 3+3?');
    assert.equal(await text(page, '.answer .text'), 'It is 6.');
  });

  test('survives a reload in the middle of an answer', async () => {
    const page = await openPage(url);
    await ask(page, 'Count.');
    await page.waitForFunction(() => document.querySelector('.text')?.textContent.length > 10);
    await page.reload();
    assert.match(await text(page, '.answer .text'), /^0 1 2 3/);
    assert.match(await text(page, '.stats'), /Stopped/);
    assert.ok(await becomesIdle(url));
  });
});

describe('an answer', () => {
  for (const [name, stop] of [['the button', (page) => page.click('#stop')],
                              ['Esc', (page) => page.keyboard.press('Escape')],
                              ['a new chat', (page) => page.click('#new')]]) {
    test(`is stopped by ${name}`, async () => {
      const page = await openPage(url);
      await ask(page, 'Count.');
      await page.waitForFunction(() => document.querySelector('.text')?.textContent.length > 10);
      assert.ok(await busySlots(url) > 0);
      await stop(page);
      assert.ok(await becomesIdle(url));
      assert.equal(await page.$eval('#send', (button) => button.hidden), false);
      if (name === 'a new chat') return;
      await isOver(page);
      assert.match(await text(page, '.stats'), /Stopped/);
      assert.match(await text(page, '.answer .text'), /^0 1 2 3/);
    });
  }

  test('is read right however its bytes are cut', async () => {
    // Every byte a chunk of its own, and lines that end in CRLF.
    const page = await openPage(url, (p) => p.evaluateOnNewDocument(() => {
      const real = window.fetch;
      window.fetch = async (target, options) => {
        const response = await real(target, options);
        if (!response.headers.get('content-type').startsWith('text/event-stream')) return response;
        const cut = new TransformStream({
          transform(chunk, out) {
            for (const byte of chunk) {
              if (byte === 10) out.enqueue(Uint8Array.of(13));
              out.enqueue(Uint8Array.of(byte));
            }
          },
        });
        return new Response(response.body.pipeThrough(cut), { headers: response.headers });
      };
    }));
    await askAndWait(page, 'Format.');
    assert.match(await text(page, '.answer .text'), /naïve 日本語 🙂/);
    assert.deepEqual(page.failures, []);
  });

  test('is shown with its Markdown', async () => {
    const page = await openPage(url);
    await askAndWait(page, 'Format.');
    const found = async (selector) => text(page, `.text ${selector}`);
    assert.equal(await found('h3'), 'Title');
    assert.equal(await found('em'), 'italic');
    assert.equal(await found('strong'), 'bold');
    assert.equal(await found('> ul > li:first-child'), 'one');
    assert.match(await found('ul > li ol > li'), /^deep/);
    assert.equal(await found('ol > li ul > li'), 'deeper');
    assert.match(await found('.code code'), /^if a < b:\n    print\("\*no\*"\)/);
    assert.equal(await found('.code span'), 'python');
    assert.equal(await found('td:last-child code'), 'x');
    assert.equal(await found('blockquote'), 'quoted');
    assert.equal(await page.$eval('.text a', (a) => a.href), 'https://example.com/x');

    await page.click('.code button');
    await page.waitForFunction(() => document.querySelector('.code button').textContent === 'Copied');
  });

  test('cannot run anything in the page', async () => {
    const page = await openPage(url);
    await askAndWait(page, 'Be hostile.');
    assert.ok((await text(page, '.answer .text')).includes('<script>window.harmed = 1</script> <img src=x'));
    assert.ok((await text(page, '.thoughts div')).includes('<script>'));
    assert.equal(await page.$$eval('.answer :is(script, img, a)', (all) => all.length), 0);
    assert.equal(await page.evaluate(() => window.harmed), undefined);
    assert.deepEqual(page.failures, []);
    // Nor could it after a mistake in the page.
    const refusal = await page.evaluate(() => {
      try {
        document.querySelector('.text').innerHTML = '<img src=x onerror="window.harmed = 4">';
      } catch (error) {
        return error.name;
      }
    });
    assert.equal(refusal, 'TypeError');
  });

  test('that takes long to begin shows how far the prompt is read', async () => {
    const prefillUrl = await serve('--prefill-chunk', '32');
    const page = await openPage(prefillUrl);
    await page.$eval('#question', (field) => { field.value = `${'word '.repeat(1000)}What is 2+2?`; });
    await ask(page, ' ');
    await page.waitForFunction(() => /Reading the prompt: \d+ %/.test(document.querySelector('.wait')?.textContent));
    assert.ok(await page.$eval('.wait progress', (bar) => bar.value > 0 && bar.value < 1));
  });
});

describe('an error', () => {
  test('is shown with the server\'s words, and the question can be tried again', async () => {
    const keyUrl = await serve('--api-key', 'secret');
    const page = await openPage(keyUrl);
    await askAndWait(page, 'What is 2+2?');
    assert.match(await text(page, '.error[role=alert]'), /Incorrect API key provided\./);
    await setField(page, '#api-key', 'secret');
    await page.click('.error button');
    await page.waitForSelector('.stats');
    assert.equal(await text(page, '.answer .text'), 'It is 4.');
    assert.equal((await page.$$('.answer')).length, 1);
    assert.ok(!JSON.stringify(await page.evaluate(() => ({ ...localStorage }))).includes('secret'));

    await page.click('#open-settings');
    await page.click('#keep-key');
    await page.reload();
    await page.waitForFunction(() => document.querySelector('#model').textContent.includes('DeepSeek'));
    assert.equal((await page.$$('.answer')).length, 1);
  });

  test('in the middle of an answer keeps what was written', async () => {
    const page = await openPage(url);
    await askAndWait(page, 'Break.');
    assert.match(await text(page, '.error'), /Internal error/);
    assert.match(await text(page, '.answer .text'), /^This is where/);
  });

  test('tells of a server that is gone', async () => {
    const page = await openPage(url);
    await page.setOfflineMode(true);
    await askAndWait(page, 'What is 2+2?');
    assert.match(await text(page, '.error'), /cannot be reached/);
  });
});

async function setField(page, selector, value) {
  await page.click('#open-settings');
  await page.$eval(selector, (field) => field.select?.());
  await page.type(selector, value);
  await page.keyboard.press('Escape');
}

describe('the page', () => {
  test('keeps its settings and sends them', async () => {
    const page = await openPage(url);
    assert.match(await text(page, '#model'), /DeepSeek V4 Flash/);
    await setField(page, '#system', 'Be brief.');
    await setField(page, '#temperature', '0.5');
    await setField(page, '#max-tokens', '100');
    await page.select('#thinking', 'off');
    await page.reload();
    const request = page.waitForRequest((r) => r.url().endsWith('/chat/completions'));
    await askAndWait(page, 'Say it plainly.');
    const { messages, thinking, temperature, max_tokens, stream } = JSON.parse((await request).postData());
    assert.deepEqual({ messages, thinking, temperature, max_tokens, stream }, {
      messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Say it plainly.' }],
      thinking: { type: 'disabled' }, temperature: 0.5, max_tokens: 100, stream: true,
    });
    assert.equal(await text(page, '.answer .text'), 'Plainly said.');
    assert.equal(await page.$eval('.thoughts', (details) => details.hidden), true);
  });

  test('starts a new chat with Ctrl+K and gives the last one back', async () => {
    const page = await openPage(url);
    await askAndWait(page, 'What is 2+2?');
    await page.keyboard.down('Control');
    await page.keyboard.press('k');
    await page.keyboard.up('Control');
    assert.equal((await page.$$('.answer, .user')).length, 0);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'question');
    await page.click('#undo');
    assert.equal(await text(page, '.answer .text'), 'It is 4.');
  });

  test('starts a line with Shift+Enter', async () => {
    const page = await openPage(url);
    await page.keyboard.type('one');
    await page.keyboard.down('Shift');
    await page.keyboard.press('Enter');
    await page.keyboard.up('Shift');
    await page.keyboard.type('two');
    assert.equal(await page.$eval('#question', (field) => field.value), 'one\ntwo');
  });

  test('has everything in reach of Tab, with names', async () => {
    const page = await openPage(url);
    await askAndWait(page, 'Format.');
    const reached = new Set();
    for (let i = 0; i < 12; ++i) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => {
        const e = document.activeElement;
        return e.id || e.textContent.slice(0, 4);
      }));
    }
    for (const id of ['new', 'open-settings', 'log', 'question', 'send', 'Copy', 'Thou']) {
      assert.ok(reached.has(id), `${id} is not among ${[...reached]}`);
    }
    const nameless = await page.$$eval('button, input, select, textarea', (all) => all.filter(
      (e) => !(e.textContent || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML));
    assert.deepEqual(nameless, []);
  });

  test('fits a window 320 pixels wide', async () => {
    const page = await openPage(url);
    await page.setViewport({ width: 320, height: 600 });
    await askAndWait(page, 'Format.');
    await page.click('#open-settings');
    const widths = await page.evaluate(() => ['html', '#log', '#settings', '#composer'].map((selector) => {
      const e = document.querySelector(selector);
      return e.scrollWidth - e.clientWidth;
    }));
    assert.deepEqual(widths, [0, 0, 0, 0]);
  });
});
