// The transports of the TypeScript SDK v1, with a token on each.
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";

// The SDK hands over no headers, and tokens do not belong into URLs.
const Socket = globalThis.WebSocket;
let socketHeaders = {};
if (Socket) {
  globalThis.WebSocket = class extends Socket {
    constructor(address, protocol) {
      super(address, { protocols: [protocol], headers: socketHeaders });
    }
  };
}

const transports = {
  http: ({ url }, requestInit) => new StreamableHTTPClientTransport(new URL(url), { requestInit }),
  sse: ({ url }, requestInit) => new SSEClientTransport(new URL(url), { requestInit }),
  ws: ({ url }, { headers }) => {
    socketHeaders = headers;
    return new WebSocketClientTransport(new URL(url));
  },
  stdio: ({ command: [command, ...args], env }) => new StdioClientTransport({ command, args, env, stderr: "inherit" }),
};

/** One transport to an endpoint: `{url}`, or `{command, env}` for `stdio`. */
export function transport(kind, endpoint, headers) {
  return transports[kind](endpoint, { headers });
}

/** One transport to a gateway whose Streamable HTTP is at `url`. */
export function toGateway(kind, url, token, lockgate) {
  const urls = { http: url, sse: url.replace(/mcp$/, "sse"), ws: url.replace(/^http(.*)mcp$/, "ws$1ws") };
  const endpoint = { url: urls[kind], command: [lockgate, "connect", "--url", url], env: { MCP_AUTH: token } };
  return transport(kind, endpoint, { authorization: `Bearer ${token}` });
}
