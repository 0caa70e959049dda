// The ai package with @ai-sdk/openai-compatible, as opencode uses it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { startServer } from "./server.mjs";

let server, model;
before(async () => {
  server = await startServer();
  const provider = createOpenAICompatible({ name: "ds4", baseURL: `${server.origin}/v1`, includeUsage: true });
  model = provider("deepseek-v4-flash");
});
after(async () => assert.equal(await server.stop(), 0));

const once = { maxRetries: 0 };

test("plain", async () => {
  const { text, reasoningText, usage, finishReason } = await generateText({ model, prompt: "hello", ...once });
  assert.equal(text, "Hello to you, wörld 🎉");
  assert.equal(reasoningText, "A greeting.");
  assert.equal(finishReason, "stop");
  assert.ok(usage.totalTokens > 0);
});

test("streamed", async () => {
  const result = streamText({ model, prompt: "hello", ...once });
  let text = "";
  for await (const delta of result.textStream) text += delta;
  assert.equal(text, "Hello to you, wörld 🎉");
  assert.equal(await result.reasoningText, "A greeting.");
  assert.ok((await result.usage).cachedInputTokens > 0);
});

test("its own tool loop", async () => {
  const asked = [];
  const result = streamText({
    model,
    prompt: "weather",
    tools: {
      get_weather: tool({
        description: "Weather of a city",
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => {
          asked.push(city);
          return "sunny";
        },
      }),
    },
    stopWhen: stepCountIs(3),
    ...once,
  });
  await result.consumeStream();
  assert.deepEqual(asked, ["Zürich"]);
  const steps = await result.steps;
  assert.equal(steps.length, 2);
  assert.equal(steps[0].finishReason, "tool-calls");
  assert.equal(await result.text, "It is sunny in Zürich.");
  assert.ok(steps[1].usage.cachedInputTokens >= steps[0].usage.inputTokens);
});

test("errors", async () => {
  await assert.rejects(generateText({ model, prompt: "fail", ...once }), /Internal error/);
  await assert.rejects(generateText({ model, prompt: "much too long ".repeat(20000), ...once }), /maximum context length is 32768 tokens/);
  let seen;
  const result = streamText({ model, prompt: "fail", ...once, onError: ({ error }) => (seen = error) });
  await result.consumeStream();
  assert.match(JSON.stringify(seen?.message ?? seen), /Internal error/);
});

test("abort frees the slot", async () => {
  const controller = new AbortController();
  const result = streamText({ model, prompt: "forever", abortSignal: controller.signal, ...once });
  let n = 0;
  for await (const part of result.fullStream) {
    if (part.type === "text-delta" && ++n === 20) controller.abort();
  }
  assert.ok(await server.becomesIdle(1000));
  assert.equal((await generateText({ model, prompt: "hello", ...once })).finishReason, "stop");
});
