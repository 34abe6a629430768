// Lists and calls tools with the TypeScript SDK v1: node client_ts1.mjs URL TOKEN CALLS-AS-JSON http|sse|ws|stdio [LOCKGATE]
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { toGateway } from "./drivers/ts1_transports.mjs";

const [url, token, calls, kind, lockgate] = process.argv.slice(2);

const transport = toGateway(kind, url, token, lockgate);
const client = new Client({ name: "interop", version: "1.0.0" });
await client.connect(transport);
const { tools } = await client.listTools();
const results = [];
for (const { name, arguments: given } of JSON.parse(calls)) {
  results.push(await client.callTool({ name, arguments: given }));
}
console.log(JSON.stringify({ server: client.getServerVersion(), tools: tools.map((tool) => tool.name), results }));
await transport.terminateSession?.();
await client.close();
