// A scripted ds4-server for one test file: the real program, but what the "model" says is written here.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const bin = process.env.DS4_BIN ?? join(root, "build/release/bin");

export const THINKS = "<｜Assistant｜><think>";
export const ANSWERS = "<｜Assistant｜></think>";

// A block of one call with string arguments, as the model writes it.
export function callBlock(name, args) {
  const d = "｜DSML｜";
  const parameters = Object.entries(args)
    .map(([key, value]) => `<${d}parameter name="${key}" string="true">${value}</${d}parameter>\n`)
    .join("");
  return `\n\n<${d}tool_calls>\n<${d}invoke name="${name}">\n${parameters}</${d}invoke>\n</${d}tool_calls>`;
}

// What every client test asks for.
export const RULES = [
  { after: `hello${THINKS}`, say: "A greeting.</think>Hello to you, wörld 🎉" },
  { after: `weather${THINKS}`, say: `I need the tool.</think>Looking.${callBlock("get_weather", { city: "Zürich" })}` },
  { after: `</tool_result>${THINKS}`, say: "It said sunny.</think>It is sunny in Zürich." },
  { after: `forever${THINKS}`, say: `</think>${"word ".repeat(20000)}` },
  { after: `fail${THINKS}`, say: "so far", fail: "request" },
  { after: "Once upon", say: " a time" },
];

export async function startServer({ rules = RULES, args = [], ...script } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "ds4-clients-"));
  const file = join(folder, "script.json");
  const tokenizer = relative(folder, join(root, "models/ds4-tiny.gguf"));
  writeFileSync(file, JSON.stringify({ tokenizer, context: 32768, decode_us: 500, rules, ...script }));
  const child = spawn(join(bin, "scripted-server"), ["-m", file, "--port", "0", ...args]);
  const ended = new Promise((resolve) => child.on("exit", (status, signal) => resolve(status ?? signal)));
  let log = "";
  const port = await new Promise((resolve, reject) => {
    child.stderr.on("data", (bytes) => {
      log += bytes;
      const found = log.match(/listening on http:\/\/[^:]+:(\d+)/);
      if (found) resolve(Number(found[1]));
    });
    child.on("error", reject);
    child.on("exit", (status) => reject(new Error(`the server ended with ${status}: ${log}`)));
  });
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    log: () => log,
    status: async () => (await fetch(`${origin}/v1/status`)).json(),
    // True once no slot is busy.
    async becomesIdle(milliseconds) {
      const deadline = Date.now() + milliseconds;
      for (;;) {
        const { slots } = await this.status();
        if (slots.every((slot) => slot.phase === "free")) return true;
        if (Date.now() > deadline) return false;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    async stop() {
      child.kill("SIGTERM");
      const status = await ended;
      rmSync(folder, { recursive: true, force: true });
      return status;
    },
  };
}
