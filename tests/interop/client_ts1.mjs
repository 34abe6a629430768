// Lists and calls tools with the TypeScript SDK v1: node client_ts1.mjs URL TOKEN CALLS-AS-JSON
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, token, calls] = process.argv.slice(2);
const client = new Client({ name: "interop", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(new URL(url), {
  requestInit: { headers: { authorization: `Bearer ${token}` } },
});
await client.connect(transport);
const { tools } = await client.listTools();
const results = [];
for (const { name, arguments: given } of JSON.parse(calls)) {
  results.push(await client.callTool({ name, arguments: given }));
}
console.log(JSON.stringify({ server: client.getServerVersion(), tools: tools.map((tool) => tool.name), results }));
await transport.terminateSession();
await client.close();
