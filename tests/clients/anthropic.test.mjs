// The @anthropic-ai/sdk package against the server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { startServer } from "./server.mjs";

const model = "deepseek-v4-flash";
const tools = [
  {
    name: "get_weather",
    description: "Weather of a city",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const ask = (content, more = {}) => ({ model, max_tokens: 16000, messages: [{ role: "user", content }], ...more });

let server, client;
before(async () => {
  server = await startServer();
  client = new Anthropic({ baseURL: server.origin, authToken: "none", apiKey: null, maxRetries: 0 });
});
after(async () => assert.equal(await server.stop(), 0));

test("plain", async () => {
  const message = await client.messages.create(ask("hello"));
  assert.deepEqual(message.content.map((block) => block.type), ["thinking", "text"]);
  assert.equal(message.content[0].thinking, "A greeting.");
  assert.ok(message.content[0].signature);
  assert.equal(message.content[1].text, "Hello to you, wörld 🎉");
  assert.equal(message.stop_reason, "end_turn");
});

test("streamed by the helper", async () => {
  const stream = client.messages.stream(ask("hello"));
  let text = "", thinking = "";
  stream.on("text", (delta) => (text += delta));
  stream.on("thinking", (delta) => (thinking += delta));
  const message = await stream.finalMessage();
  assert.equal(text, "Hello to you, wörld 🎉");
  assert.equal(thinking, "A greeting.");
  assert.equal(message.content[1].text, text);
  assert.ok(message.usage.cache_read_input_tokens > 0);
  assert.ok(message.usage.output_tokens > 0);
});

test("tool round trip with replayed thinking", async () => {
  const body = ask("weather", { tools });
  const first = await client.messages.stream(body).finalMessage();
  assert.equal(first.stop_reason, "tool_use");
  const call = first.content.find((block) => block.type === "tool_use");
  assert.match(call.id, /^toolu_[0-9a-f]{32}$/);
  assert.deepEqual(call.input, { city: "Zürich" });
  const second = await client.messages.create({
    ...body,
    messages: [
      ...body.messages,
      { role: "assistant", content: first.content },
      { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "sunny" }] },
    ],
  });
  assert.equal(second.content.at(-1).text, "It is sunny in Zürich.");
  const before = first.usage.input_tokens + first.usage.cache_read_input_tokens;
  assert.ok(second.usage.cache_read_input_tokens >= before, JSON.stringify([first.usage, second.usage]));
});

test("count_tokens", async () => {
  const { input_tokens } = await client.messages.countTokens({ model, messages: [{ role: "user", content: "hello" }] });
  const { usage } = await client.messages.create(ask("hello"));
  assert.equal(input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
});

test("stop sequences and limits", async () => {
  const stopped = await client.messages.create(ask("hello", { stop_sequences: [" you"] }));
  assert.equal(stopped.stop_reason, "stop_sequence");
  assert.equal(stopped.stop_sequence, " you");
  const cut = await client.messages.create(ask("hello", { max_tokens: 2 }));
  assert.equal(cut.stop_reason, "max_tokens");
});

test("errors have their classes", async () => {
  await assert.rejects(client.messages.create(ask("x", { messages: [] })), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create(ask("much too long ".repeat(20000))), /prompt is too long: \d+ tokens > 32768 maximum/);
  await assert.rejects(client.messages.create(ask("fail")), Anthropic.InternalServerError);
  await assert.rejects(client.messages.stream(ask("fail")).finalMessage(), /Internal error/);
  const locked = await startServer({ args: ["--api-key", "right"] });
  try {
    const wrong = new Anthropic({ baseURL: locked.origin, apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(wrong.messages.create(ask("hello")), Anthropic.AuthenticationError);
    const right = new Anthropic({ baseURL: locked.origin, apiKey: "right", maxRetries: 0 });
    assert.equal((await right.messages.create(ask("hello"))).stop_reason, "end_turn");
  } finally {
    await locked.stop();
  }
});

test("abort frees the slot", async () => {
  const stream = client.messages.stream(ask("forever"));
  let n = 0;
  stream.on("text", () => {
    if (++n === 20) stream.abort();
  });
  await assert.rejects(stream.done(), Anthropic.APIUserAbortError);
  assert.ok(await server.becomesIdle(1000));
  assert.equal((await client.messages.create(ask("hello"))).stop_reason, "end_turn");
});
