// The openai package against the server: chat completions, completions, Responses.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { startServer } from "./server.mjs";

const model = "deepseek-v4-flash";
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const ask = (content, more = {}) => ({ model, messages: [{ role: "user", content }], ...more });

let server, client;
before(async () => {
  server = await startServer();
  client = new OpenAI({ baseURL: `${server.origin}/v1`, apiKey: "none", maxRetries: 0 });
});
after(async () => assert.equal(await server.stop(), 0));

test("plain", async () => {
  const answer = await client.chat.completions.create(ask("hello"));
  const { message, finish_reason } = answer.choices[0];
  assert.equal(message.content, "Hello to you, wörld 🎉");
  assert.equal(message.reasoning_content, "A greeting.");
  assert.equal(finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.match(answer._request_id, /^req_/);
});

test("streamed", async () => {
  const stream = await client.chat.completions.create(
    ask("hello", { stream: true, stream_options: { include_usage: true } }),
  );
  let content = "", reasoning = "", usage;
  for await (const chunk of stream) {
    content += chunk.choices[0]?.delta.content ?? "";
    reasoning += chunk.choices[0]?.delta.reasoning_content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(content, "Hello to you, wörld 🎉");
  assert.equal(reasoning, "A greeting.");
  assert.ok(usage.completion_tokens > 0);
  assert.ok(usage.prompt_tokens_details.cached_tokens > 0);
});

test("tool round trip, streamed by the helper", async () => {
  const body = ask("weather", { tools });
  const first = await client.chat.completions.stream(body).finalChatCompletion();
  const [call] = first.choices[0].message.tool_calls;
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  assert.match(call.id, /^call_[0-9a-f]{32}$/);
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Zürich" });
  const second = await client.chat.completions.create({
    ...body,
    messages: [
      ...body.messages,
      { role: "assistant", content: "Looking.", reasoning_content: "I need the tool.", tool_calls: [call] },
      { role: "tool", tool_call_id: call.id, content: "sunny" },
    ],
  });
  assert.equal(second.choices[0].message.content, "It is sunny in Zürich.");
  assert.ok(second.usage.prompt_tokens_details.cached_tokens > 0);
});

test("several choices, log probabilities, stop", async () => {
  const answer = await client.chat.completions.create(
    ask("hello", { n: 2, logprobs: true, top_logprobs: 2, stop: [" you"] }),
  );
  assert.equal(answer.choices.length, 2);
  for (const choice of answer.choices) {
    assert.equal(choice.message.content, "Hello to");
    assert.equal(choice.logprobs.content[0].token, "Hello");
    assert.equal(choice.logprobs.content[0].top_logprobs.length, 2);
  }
});

test("completions and models", async () => {
  const answer = await client.completions.create({ model, prompt: "Once upon", max_tokens: 10 });
  assert.equal(answer.choices[0].text, " a time");
  const models = await client.models.list();
  assert.equal(models.data[0].id, model);
  assert.equal((await client.models.retrieve(model)).context_length, 32768);
});

test("errors have their classes", async () => {
  const rejects = (promise, kind, expected) =>
    assert.rejects(promise, (error) => {
      assert.ok(error instanceof kind, `${error}`);
      for (const [key, value] of Object.entries(expected)) assert.equal(error[key], value);
      return true;
    });
  await rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError, { param: "messages" });
  await rejects(client.models.retrieve("gpt-99"), OpenAI.NotFoundError, { code: "model_not_found" });
  await rejects(
    client.chat.completions.create(ask("much too long ".repeat(20000))), OpenAI.BadRequestError,
    { code: "context_length_exceeded" });
  await rejects(client.chat.completions.create(ask("fail")), OpenAI.InternalServerError, { type: "server_error" });
  const stream = await client.chat.completions.create(ask("fail", { stream: true }));
  await assert.rejects(async () => {
    for await (const chunk of stream) assert.ok(chunk);
  }, /Internal error/);
});

test("abort frees the slot", async () => {
  const stream = await client.chat.completions.create(ask("forever", { stream: true }));
  let n = 0;
  for await (const chunk of stream) {
    assert.ok(chunk);
    if (++n === 20) stream.controller.abort();
  }
  assert.ok(await server.becomesIdle(1000));
  assert.equal((await client.chat.completions.create(ask("hello"))).choices[0].finish_reason, "stop");
});

// ---- Responses ----

const responseTools = tools.map(({ function: f }) => ({ type: "function", ...f, strict: false }));

test("Responses: plain and streamed", async () => {
  const plain = await client.responses.create({ model, input: "hello", reasoning: { summary: "auto" } });
  assert.equal(plain.output_text, "Hello to you, wörld 🎉");
  assert.equal(plain.output[0].summary[0].text, "A greeting.");
  const stream = client.responses.stream({ model, input: "hello", reasoning: { summary: "auto" } });
  let text = "";
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(text, "Hello to you, wörld 🎉");
  assert.equal(final.status, "completed");
  assert.equal(final.output.length, 2);
  assert.ok(final.usage.input_tokens_details.cached_tokens > 0);
});

test("Responses: tool round trip", async () => {
  const input = [{ role: "user", content: "weather" }];
  const first = await client.responses
    .stream({ model, input, tools: responseTools, reasoning: { summary: "auto" } })
    .finalResponse();
  const call = first.output.find((item) => item.type === "function_call");
  assert.deepEqual(JSON.parse(call.arguments), { city: "Zürich" });
  const second = await client.responses.create({
    model, tools: responseTools,
    input: [...input, ...first.output, { type: "function_call_output", call_id: call.call_id, output: "sunny" }],
  });
  assert.equal(second.output_text, "It is sunny in Zürich.");
  assert.ok(second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens);
});

test("Responses: errors and abort", async () => {
  await assert.rejects(client.responses.create({ model, input: "x", previous_response_id: "resp_1" }), OpenAI.BadRequestError);
  const failed = await client.responses.stream({ model, input: "fail" }).finalResponse();
  assert.equal(failed.status, "failed");
  const controller = new AbortController();
  const stream = await client.responses.create({ model, input: "forever", stream: true }, { signal: controller.signal });
  let n = 0;
  await assert.rejects(async () => {
    for await (const event of stream) {
      assert.ok(event);
      if (++n === 20) controller.abort();
    }
    throw new Error("ended"); // some versions end the loop quietly
  });
  assert.ok(await server.becomesIdle(1000));
});

test("keys", async () => {
  const locked = await startServer({ args: ["--api-key", "right"] });
  try {
    const with_key = (apiKey) => new OpenAI({ baseURL: `${locked.origin}/v1`, apiKey, maxRetries: 0 });
    await assert.rejects(with_key("wrong").chat.completions.create(ask("hello")), OpenAI.AuthenticationError);
    assert.equal((await with_key("right").chat.completions.create(ask("hello"))).choices[0].finish_reason, "stop");
  } finally {
    await locked.stop();
  }
});
