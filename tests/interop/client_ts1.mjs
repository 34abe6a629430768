// Lists and calls tools with the TypeScript SDK v1: node client_ts1.mjs URL TOKEN CALLS-AS-JSON http|sse|ws|stdio [LOCKGATE]
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";

const [url, token, calls, kind, lockgate] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };

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
