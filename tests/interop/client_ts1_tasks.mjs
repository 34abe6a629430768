// Follows a task with the TypeScript SDK v1 and answers what it asks:
// node client_ts1_tasks.mjs URL TOKEN TOOL http|sse|ws|stdio LOCKGATE
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { toGateway } from "./drivers/ts1_transports.mjs";

const [url, token, name, kind, lockgate] = process.argv.slice(2);
const RELATED = "io.modelcontextprotocol/related-task";

const transport = toGateway(kind, url, token, lockgate);
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
