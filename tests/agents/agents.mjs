// One agent, headless, through reasoning -> tool call -> tool result -> answer, and a second turn from the cache.
// usage: node agents.mjs AGENT BIN_FOLDER_OF_THE_AGENTS; run by scripts/test-agents.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { callBlock, startServer, THINKS } from "../clients/server.mjs";

const context = 131072;
const model = "deepseek-v4-flash";
const minutes = 3; // for one run of an agent

// The marker goes into the home folder: a changed work tree would change Claude Code's system text, and with it the
// head of the next prompt.

// How each is configured and called: README.md says the same to our users.
const agents = {
  claude: {
    call: ["Bash", { command: "echo made > ~/marker.txt", description: "Makes the marker" }],
    environment: (origin) => ({
      ANTHROPIC_BASE_URL: origin,
      ANTHROPIC_AUTH_TOKEN: "none",
      ANTHROPIC_MODEL: model,
      ANTHROPIC_DEFAULT_HAIKU_MODEL: model,
      ANTHROPIC_DEFAULT_SONNET_MODEL: model,
      ANTHROPIC_DEFAULT_OPUS_MODEL: model,
      CLAUDE_CODE_SUBAGENT_MODEL: model,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: "1",
      CLAUDE_STREAM_IDLE_TIMEOUT_MS: "1000000",
      DISABLE_AUTOUPDATER: "1",
    }),
    first: (text) => ["claude", "-p", text, "--allowedTools", "Bash"],
    again: (text) => ["claude", "-c", "-p", text, "--allowedTools", "Bash"],
  },
  codex: {
    call: ["exec_command", { cmd: "echo made > ~/marker.txt" }],
    files: (origin) => ({
      ".codex/config.toml": `model = "${model}"
model_provider = "ds4"
model_reasoning_effort = "high"
model_context_window = ${context}

[model_providers.ds4]
name = "ds4"
base_url = "${origin}/v1"
wire_api = "responses"
stream_idle_timeout_ms = 1000000
`,
    }),
    first: (text) => ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", text],
    again: (text) => [
      "codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "resume", "--last", text,
    ],
  },
  opencode: {
    call: ["bash", { command: "echo made > ~/marker.txt", description: "Makes the marker" }],
    files: (origin) => ({
      ".config/opencode/opencode.json": JSON.stringify({
        provider: {
          ds4: {
            npm: "@ai-sdk/openai-compatible",
            name: "ds4",
            options: { baseURL: `${origin}/v1`, apiKey: "none" },
            models: { [model]: { name: "DeepSeek V4 Flash", limit: { context, output: 32000 } } },
          },
        },
        model: `ds4/${model}`,
        small_model: `ds4/${model}`,
        permission: "allow",
        autoupdate: false,
        share: "disabled",
      }),
    }),
    first: (text) => ["opencode", "run", "--model", `ds4/${model}`, text],
    again: (text) => ["opencode", "run", "-c", "--model", `ds4/${model}`, text],
  },
  pi: {
    call: ["bash", { command: "echo made > ~/marker.txt" }],
    files: (origin) => ({
      ".pi/agent/models.json": JSON.stringify({
        providers: {
          ds4: {
            baseUrl: `${origin}/v1`,
            api: "openai-completions",
            apiKey: "none",
            compat: {
              supportsStore: false,
              supportsDeveloperRole: false,
              supportsReasoningEffort: true,
              supportsUsageInStreaming: true,
              maxTokensField: "max_tokens",
              supportsStrictMode: false,
              thinkingFormat: "deepseek",
              requiresReasoningContentOnAssistantMessages: true,
            },
            models: [
              {
                id: model,
                reasoning: true,
                input: ["text"],
                contextWindow: context,
                maxTokens: 32000,
                cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
              },
            ],
          },
        },
      }),
    }),
    first: (text) => ["pi", "--provider", "ds4", "--model", model, "-p", text],
    again: (text) => ["pi", "-c", "--provider", "ds4", "--model", model, "-p", text],
  },
};

// ---- running ----

function run([program, ...args], { home, repository, environment }) {
  return new Promise((resolve, reject) => {
    // Nothing of the caller's own configuration: an agent that finds a key of its owner would use it.
    const child = spawn(join(bin, program), args, {
      cwd: repository,
      env: { PATH: `${dirname(process.execPath)}:${bin}:/usr/local/bin:/usr/bin:/bin`, HOME: home, TERM: "dumb", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true, // its own process group: some agents are wrappers that start the real program
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (output += bytes));
    const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), minutes * 60_000);
    child.on("error", reject);
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status, output });
    });
  });
}

// {prompt, cached} of the requests that the server logged since a place in its log.
function requests(log) {
  return [...log.matchAll(/ prompt=(\d+) cached=(\d+)/g)].map(([, prompt, cached]) => ({
    prompt: Number(prompt),
    cached: Number(cached),
  }));
}

const [name, bin] = process.argv.slice(2);
const agent = agents[name];
assert.ok(agent, `no such agent: ${name}; there are ${Object.keys(agents).join(", ")}`);

const [tool, args] = agent.call;
const server = await startServer({
  context,
  args: ["--ctx", String(context)],
  rules: [
    { after: `</tool_result>${THINKS}`, say: "It was made.</think>The marker is made." },
    { after: `Thank you${THINKS}`, say: "Polite.</think>You are welcome." },
    { after: `"Thank you"${THINKS}`, say: "Polite.</think>You are welcome." },
    { after: THINKS, say: `A file is wanted.</think>I make it.${callBlock(tool, args)}` },
  ],
});
const home = mkdtempSync(join(tmpdir(), "ds4-agent-home-"));
const repository = mkdtempSync(join(tmpdir(), "ds4-agent-work-"));
let failure;
try {
  for (const [file, text] of Object.entries(agent.files?.(server.origin) ?? {})) {
    mkdirSync(join(home, dirname(file)), { recursive: true });
    writeFileSync(join(home, file), text);
  }
  mkdirSync(join(repository, ".git", "objects"), { recursive: true });
  mkdirSync(join(repository, ".git", "refs"));
  writeFileSync(join(repository, ".git", "HEAD"), "ref: refs/heads/main\n");
  const place = { home, repository, environment: agent.environment?.(server.origin) ?? {} };

  const first = await run(agent.first("Make the marker file"), place);
  assert.equal(first.status, 0, `ended with ${first.status}: ${first.output.slice(-2000)}`);
  assert.ok(existsSync(join(home, "marker.txt")), `made no marker: ${first.output.slice(-2000)}`);
  assert.match(first.output, /The marker is made\./);

  const firstLog = server.log();
  const longest = Math.max(...requests(firstLog).map(({ prompt }) => prompt));
  const second = await run(agent.again("Thank you"), place);
  assert.equal(second.status, 0, `second turn ended with ${second.status}: ${second.output.slice(-2000)}`);
  assert.match(second.output, /You are welcome\./);
  const cached = Math.max(...requests(server.log().slice(firstLog.length)).map((request) => request.cached));
  assert.ok(cached >= 0.9 * longest, `second turn took ${cached} tokens of ${longest} from the cache`);
  console.log(`${name}: ok (prompt ${longest} tokens, second turn ${cached} cached)`);
} catch (error) {
  failure = error;
  console.log(`${name}: FAILED: ${error.message}`);
} finally {
  await server.stop();
  for (const folder of [home, repository]) rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failure ? 1 : 0;
