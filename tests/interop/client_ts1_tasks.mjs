// Follows a task with the TypeScript SDK v1 and answers what it asks:
// node client_ts1_tasks.mjs URL TOKEN TOOL http|sse|ws|stdio LOCKGATE
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const [url, token, name, kind, lockgate] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };
const RELATED = "io.modelcontextprotocol/related-task";

// The SDK hands over no headers, and tokens do not belong into URLs.
const Socket = globalThis.WebSocket;
globalThis.WebSocket = class extends Socket {
  constructor(address, protocol) {
    super(address, { protocols: [protocol], headers });
  }
};

const transports = {
  http: () => new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }),
  sse: () => new SSEClientTransport(new URL(url.replace(/mcp$/, "sse")), { requestInit: { headers } }),
  stdio: () =>
    new StdioClientTransport({ command: lockgate, args: ["connect", "--url", url], env: { MCP_AUTH: token } }),
  ws: () => new WebSocketClientTransport(new URL(url.replace(/^http(.*)mcp$/, "ws$1ws"))),
};
const transport = transports[kind]();
const client = new Client({ name: "tasks", version: "1.0.0" }, { capabilities: { elicitation: {} } });
const ids = new Set();
const states = [];
let asked = 0;
let result;
client.setRequestHandler(ElicitRequestSchema, (request) => {
  asked += 1;
  ids.add(request.params._meta[RELATED].taskId);
  return { action: "accept", content: { interpretation: "snake" } };
});
await client.connect(transport);
await client.listTools();
const tasks = client.experimental.tasks;
const call = { name, arguments: { topic: "python", ambiguous: true } };
const stream = tasks.callToolStream(call, CallToolResultSchema, { task: { ttl: 60000 } });
for await (const message of stream) {
  if (message.type === "error") throw message.error;
  if (message.task) {
    ids.add(message.task.taskId);
    states.push(message.task.status);
  } else {
    result = message.result;
    ids.add(result._meta[RELATED].taskId);
  }
}
const [id] = ids;
const listed = [];
let cursor;
do {
  const page = await tasks.listTasks(cursor);
  listed.push(...page.tasks);
  cursor = page.nextCursor;
} while (cursor);
const other = tasks.callToolStream(call, CallToolResultSchema, { task: {} });
const created = (await other.next()).value;
if (created.type === "error") throw created.error;
const cancelled = await tasks.cancelTask(created.task.taskId);
const capabilities = client.getServerCapabilities();
const listedIds = listed.map((task) => task.taskId);
console.log(JSON.stringify({ capabilities, states, asked, result, id, ids: ids.size, listed: listedIds, cancelled: cancelled.status }));
await transport.terminateSession?.();
await client.close();
