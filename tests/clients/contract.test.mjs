// What the clients rely on beyond the happy path: event order, replayed reasoning, errors in every dialect.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";
import { startServer } from "./server.mjs";

const model = "deepseek-v4-flash";
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const long = "much too long ".repeat(20000);

let server, openai, anthropic, ai;
before(async () => {
  server = await startServer();
  openai = new OpenAI({ baseURL: `${server.origin}/v1`, apiKey: "none", maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: server.origin, authToken: "none", apiKey: null, maxRetries: 0 });
  ai = createOpenAICompatible({ name: "ds4", baseURL: `${server.origin}/v1`, includeUsage: true })(model);
});
after(async () => assert.equal(await server.stop(), 0));

test("Responses: events of a tool call come in order and agree", async () => {
  const events = [];
  const stream = await openai.responses.create({
    model, input: "weather", stream: true, reasoning: { summary: "auto" },
    tools: [{ type: "function", name: "get_weather", parameters, strict: false }],
  });
  for await (const event of stream) events.push(event);
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, i) => i));
  const order = events.map((event) => event.type.replace("response.", "")).filter((type, i, all) => type !== all[i - 1]);
  assert.deepEqual(order, [
    "created", "in_progress",
    "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done",
    "reasoning_summary_part.done", "output_item.done",
    "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
    "output_item.done",
    "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
    "completed",
  ]);
  const final = events.at(-1).response;
  const done = events.filter((event) => event.type === "response.output_item.done").map((event) => event.item);
  assert.deepEqual(done, final.output);
  assert.deepEqual(final.output.map((item) => item.type), ["reasoning", "message", "function_call"]);
  assert.match(final.id, /^resp_[0-9a-f]{24}$/);
  const [rs, msg, fc] = final.output;
  assert.match(rs.id, /^rs_[0-9a-f]{24}$/); assert.match(msg.id, /^msg_[0-9a-f]{24}$/); assert.match(fc.id, /^fc_[0-9a-f]{24}$/);
  assert.match(fc.call_id, /^call_[0-9a-f]{32}$/);
  const deltas = events.filter((e) => e.type === "response.function_call_arguments.delta").map((e) => e.delta).join("");
  assert.equal(deltas, fc.arguments);
  const { usage } = final;
  assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
  assert.ok(usage.output_tokens_details.reasoning_tokens > 0);
});

test("Responses: no summary asked, none sent", async () => {
  const r = await openai.responses.create({ model, input: "hello" });
  assert.deepEqual(r.output.map((i) => i.type), ["message"]);
});

test("Messages: blocks do not overlap, usage is repeated at the end", async () => {
  const types = [];
  let open = -1, next = 0, delta;
  const stream = await anthropic.messages.create({
    model, max_tokens: 1000, stream: true, messages: [{ role: "user", content: "weather" }],
    tools: [{ name: "get_weather", input_schema: parameters }],
  });
  for await (const event of stream) {
    types.push(event.type);
    if (event.type === "content_block_start") { assert.equal(open, -1); assert.equal(event.index, next++); open = event.index; }
    if (event.type === "content_block_delta") assert.equal(event.index, open);
    if (event.type === "content_block_stop") { assert.equal(event.index, open); open = -1; }
    if (event.type === "message_delta") delta = event;
  }
  assert.equal(next, 3);
  assert.equal(types[0], "message_start"); assert.equal(types.at(-1), "message_stop"); assert.equal(types.at(-2), "message_delta");
  assert.equal(delta.delta.stop_reason, "tool_use");
  for (const key of ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"])
    assert.equal(typeof delta.usage[key], "number", key);
});

test("chat: reasoning of a tool turn, replayed in full, keeps the whole turn cached", async () => {
  const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
  const messages = [{ role: "user", content: "weather" }];
  const stream = await openai.chat.completions.create({ model, messages, tools, stream: true, stream_options: { include_usage: true } });
  let reasoning = "", content = "", call = { arguments: "" }, finish, usage; const ids = new Set();
  for await (const chunk of stream) {
    ids.add(chunk.id);
    const choice = chunk.choices[0];
    usage = chunk.usage ?? usage;
    if (!choice) continue;
    reasoning += choice.delta.reasoning_content ?? ""; content += choice.delta.content ?? "";
    finish = choice.finish_reason ?? finish;
    for (const t of choice.delta.tool_calls ?? []) { if (t.id) { call.id = t.id; call.name = t.function.name; } call.arguments += t.function.arguments ?? ""; }
  }
  assert.equal(ids.size, 1); assert.equal(finish, "tool_calls");
  assert.equal(reasoning, "I need the tool."); assert.equal(content, "Looking.");
  const second = await openai.chat.completions.create({ model, tools, messages: [...messages,
    // edited spacing: exact replay must still find the block
    { role: "assistant", content, reasoning_content: reasoning, tool_calls: [{ id: call.id, type: "function", function: { name: call.name, arguments: ` { "city" : "Zürich" } ` } }] },
    { role: "tool", tool_call_id: call.id, content: "sunny" }] });
  assert.equal(second.choices[0].message.reasoning_content, "It said sunny.");
  assert.ok(second.usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens + usage.completion_tokens - 1,
    JSON.stringify([usage, second.usage]));
});

test("ai: reasoning and ids in its loop", async () => {
  const { steps } = await generateText({ model: ai, prompt: "weather", maxRetries: 0, stopWhen: stepCountIs(3),
    tools: { get_weather: tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "sunny" }) } });
  assert.equal(steps.length, 2);
  assert.equal(steps[0].reasoningText, "I need the tool."); assert.equal(steps[1].reasoningText, "It said sunny.");
  assert.match(steps[0].toolCalls[0].toolCallId, /^call_[0-9a-f]{32}$/);
});

const error = (promise) => promise.then(() => assert.fail("no error"), (e) => e);
test("overflow in every dialect, streamed or not", async () => {
  for (const stream of [false, true]) {
    for (const [param, start] of [
      ["messages", () => openai.chat.completions.create({ model, stream, messages: [{ role: "user", content: long }] })],
      ["input", () => openai.responses.create({ model, stream, input: long })],
      ["prompt", () => openai.completions.create({ model, stream, prompt: long })]]) {
      const e = await error(start());
      assert.equal(e.status, 400); assert.equal(e.code, "context_length_exceeded"); assert.equal(e.param, param);
      assert.match(e.message, /This model's maximum context length is 32768 tokens, but the prompt has \d+ tokens \(context_length_exceeded\)/);
      assert.equal(e.error.n_ctx, 32768); assert.ok(e.error.n_prompt_tokens > 32768);
    }
    const e = await error(anthropic.messages.create({ model, stream, max_tokens: 5, messages: [{ role: "user", content: long }] }));
    assert.equal(e.status, 400); assert.equal(e.error.error.type, "invalid_request_error");
    assert.match(e.message, /prompt is too long: \d+ tokens > 32768 maximum/);
  }
});

test("400, 404, 405 and unsupported features name what is wrong", async () => {
  const chat = (more) => error(openai.chat.completions.create({ model, messages: [{ role: "user", content: "hello" }], ...more }));
  assert.equal((await chat({ max_tokens: 0 })).param, "max_tokens");
  assert.equal((await chat({ temperature: "hot" })).param, "temperature");
  assert.equal((await chat({ messages: "x" })).param, "messages");
  const image = await chat({ messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] });
  assert.equal(image.status, 400); assert.equal(image.code, "unsupported_value");
  assert.equal((await chat({ tools: [], tool_choice: "required" })).status, 400);
  assert.equal((await error(openai.responses.create({ model, input: "x", background: true }))).code, "unsupported_value");
  assert.equal((await error(openai.get("/nothing"))).code, "unknown_url");
  assert.equal((await error(openai.get("/chat/completions"))).status, 405);
  const unknown = await error(openai.responses.create({ model, input: [{ type: "function_call_output", call_id: "call_x", output: "y" }] }));
  assert.equal(unknown.status, 400);
  const lost = await error(anthropic.messages.create({ model, max_tokens: 5, messages: [{ role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_x", content: "y" }] }] }));
  assert.equal(lost.status, 400);
  assert.ok((await error(anthropic.models.retrieve("gpt-99"))) instanceof Anthropic.NotFoundError);
});

test("a failure is said once: no retry of what would repeat", async () => {
  const eager = new OpenAI({ baseURL: `${server.origin}/v1`, apiKey: "none", maxRetries: 2 });
  const fails = async () => Number((await (await fetch(`${server.origin}/metrics`)).text()).match(/ds4_requests_total\{[^}]*chat[^}]*status="500"[^}]*\} (\d+)/)?.[1] ?? 0);
  const was = await fails();
  const e = await error(eager.chat.completions.create({ model, messages: [{ role: "user", content: "fail" }] }));
  assert.equal(e.status, 500); assert.match(e.message, /Internal error \(request req_/);
  assert.equal((await fails()) - was, 1);
});

test("failure in the middle of a Messages and a Responses stream", async () => {
  const kinds = [];
  const s = await openai.responses.create({ model, input: "fail", stream: true, reasoning: { summary: "auto" } });
  for await (const event of s) kinds.push(event);
  const last = kinds.at(-1);
  assert.equal(last.type, "response.failed"); assert.equal(last.response.error.code, "server_error");
  assert.equal(kinds.filter((k) => k.type === "response.completed").length, 0);
});

test("unstreamed requests that are given up free their slots, too", async () => {
  for (const start of [
    (signal) => openai.chat.completions.create({ model, messages: [{ role: "user", content: "forever" }] }, { signal }),
    (signal) => openai.responses.create({ model, input: "forever" }, { signal }),
    (signal) => anthropic.messages.create({ model, max_tokens: 16000, messages: [{ role: "user", content: "forever" }] }, { signal }),
    (signal) => generateText({ model: ai, prompt: "forever", abortSignal: signal, maxRetries: 0 }),
  ]) {
    const controller = new AbortController();
    const ended = error(start(controller.signal));
    while ((await server.status()).slots.every((slot) => slot.phase === "free")) await new Promise((r) => setTimeout(r, 5));
    controller.abort();
    await ended;
    assert.ok(await server.becomesIdle(1000));
  }
  assert.equal((await openai.responses.create({ model, input: "hello" })).status, "completed");
});
