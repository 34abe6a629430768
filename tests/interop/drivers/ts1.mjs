// The TypeScript SDK v1: node ts1.mjs JOB
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import * as types from "@modelcontextprotocol/sdk/types.js";
import { filled, run, said } from "./features.mjs";
import { transport } from "./ts1_transports.mjs";

await run(async (job, endpoint) => {
  const capabilities = { sampling: {}, elicitation: { form: {} }, roots: {} };
  const client = new Client({ name: "interop", version: "1.0.0" }, { capabilities });
  client.setRequestHandler(types.CreateMessageRequestSchema, async () => ({
    model: "none",
    role: "assistant",
    content: { type: "text", text: said.sampling },
  }));
  client.setRequestHandler(types.ElicitRequestSchema, async ({ params }) => ({
    action: "accept",
    content: filled(params.requestedSchema),
  }));
  client.setRequestHandler(types.ListRootsRequestSchema, async () => ({ roots: [] }));
  const listeners = [];
  const notices = [types.ResourceUpdatedNotificationSchema, types.ToolListChangedNotificationSchema];
  for (const schema of [...notices, types.ResourceListChangedNotificationSchema]) {
    client.setNotificationHandler(schema, ({ method, params }) => {
      for (const [wanted, listener] of listeners) if (wanted === method) listener(params ?? {});
    });
  }
  const way = transport(job.transport, endpoint, job.headers);
  await client.connect(way);
  return {
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: (name, given, options) => client.callTool({ name, arguments: given }, undefined, options),
    read: (uri) => client.readResource({ uri }),
    prompt: (name, given) => client.getPrompt({ name, arguments: given }),
    complete: (name, argument, value) =>
      client.complete({ ref: { type: "ref/prompt", name }, argument: { name: argument, value } }),
    subscribe: (uri) => client.subscribeResource({ uri }),
    watch: async () => {},
    on: (method, listener) => listeners.push([method, listener]),
    close: async () => {
      await way.terminateSession?.();
      await client.close();
    },
  };
});
