// The TypeScript SDK v2, in the mode `legacy` or `auto`: node ts2.mjs JOB
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { filled, run, said } from "./features.mjs";

const transports = {
  http: ({ url }, requestInit) => new StreamableHTTPClientTransport(new URL(url), { requestInit }),
  sse: ({ url }, requestInit) => new SSEClientTransport(new URL(url), { requestInit }),
  stdio: ({ command: [command, ...args], env }) => new StdioClientTransport({ command, args, env, stderr: "inherit" }),
};

// What servers report of a call. This SDK reports its own rounds of input among that, each by its number.
const ownReport = /^Fulfilling input required by /;
const heard = ({ onprogress, ...options } = {}) => ({
  ...options,
  ...(onprogress && { onprogress: (report) => ownReport.test(report.message) || onprogress(report) }),
});

await run(async (job, endpoint) => {
  const make = transports[job.transport];
  if (!make) throw new Error(`this SDK has no ${job.transport}`);
  const client = new Client(
    { name: "interop", version: "1.0.0" },
    {
      capabilities: { sampling: {}, elicitation: { form: {} }, roots: {} },
      versionNegotiation: { mode: job.mode },
    },
  );
  client.setRequestHandler("sampling/createMessage", async () => ({
    model: "none",
    role: "assistant",
    content: { type: "text", text: said.sampling },
  }));
  client.setRequestHandler("elicitation/create", async ({ params }) => ({
    action: "accept",
    content: filled(params.requestedSchema),
  }));
  client.setRequestHandler("roots/list", async () => ({ roots: [] }));
  const listeners = [];
  const notices = ["resources/updated", "tools/list_changed", "resources/list_changed"];
  for (const name of notices) {
    client.setNotificationHandler(`notifications/${name}`, ({ method, params }) => {
      for (const [wanted, listener] of listeners) if (wanted === method) listener(params ?? {});
    });
  }
  const transport = make(endpoint, { headers: job.headers });
  await client.connect(transport);
  const modern = client.getNegotiatedProtocolVersion?.() === "2026-07-28";
  const filters = { tools: { toolsListChanged: true }, resources: { resourcesListChanged: true } };
  return {
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: (name, given, options) => client.callTool({ name, arguments: given }, heard(options)),
    read: (uri) => client.readResource({ uri }),
    prompt: (name, given) => client.getPrompt({ name, arguments: given }),
    complete: (name, argument, value) =>
      client.complete({ ref: { type: "ref/prompt", name }, argument: { name: argument, value } }),
    subscribe: (uri) =>
      modern ? client.listen({ resourceSubscriptions: [uri] }) : client.subscribeResource({ uri }),
    watch: async (list) => modern && client.listen(filters[list]),
    on: (method, listener) => listeners.push([method, listener]),
    close: async () => {
      if (!modern) await transport.terminateSession?.();
      await client.close();
    },
  };
});
