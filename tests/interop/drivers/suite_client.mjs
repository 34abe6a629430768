// Lets a gateway call the conformance suite's server: node suite_client.mjs URL
//
// The gateway is judged, not this client: it makes URL an upstream (SUITE_LOCKGATE on
// SUITE_DATA_DIR), and does through the gateway what the scenario wants.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { SUITE_LOCKGATE, SUITE_DATA_DIR, SUITE_GATEWAY, SUITE_TOKEN } = process.env;
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === "2026-07-28";
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const name = `suite-${process.pid}`;

async function lockgate(...args) {
  const environment = { PATH: process.env.PATH, HOME: SUITE_DATA_DIR };
  await promisify(execFile)(SUITE_LOCKGATE, ["--data-dir", SUITE_DATA_DIR, ...args], { env: environment });
}

// What a form says by itself.
function defaults(schema) {
  const fields = Object.entries(schema?.properties ?? {});
  return Object.fromEntries(fields.filter(([, field]) => "default" in field).map(([key, field]) => [key, field.default]));
}

async function connect() {
  const client = new Client(
    { name: "suite", version: "1.0.0" },
    {
      capabilities: { elicitation: { form: {} }, sampling: {}, roots: {} },
      versionNegotiation: { mode: modern ? "auto" : "legacy" },
    },
  );
  client.setRequestHandler("elicitation/create", async ({ params }) => ({
    action: "accept",
    content: { confirmed: true, ...defaults(params.requestedSchema) },
  }));
  const headers = { authorization: `Bearer ${SUITE_TOKEN}` };
  const url = new URL(`${SUITE_GATEWAY}/servers/${name}/mcp`);
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
  return client;
}

const call = (client, tool, given = {}) => client.callTool({ name: tool, arguments: given });

const scenarios = {
  async tools_call(client) {
    await call(client, "add_numbers", { a: 2, b: 3 });
  },
  async "elicitation-sep1034-client-defaults"(client) {
    await call(client, "test_client_elicitation_defaults");
  },
  async "sse-retry"(client) {
    await call(client, "test_reconnection");
  },
  async "sep-2322-client-request-state"(client) {
    await Promise.all([call(client, "test_mrtr_echo_state"), call(client, "test_mrtr_unrelated")]);
    await call(client, "test_mrtr_no_state");
    await call(client, "test_mrtr_unrelated");
    await call(client, "test_mrtr_no_result_type");
  },
  async "http-standard-headers"(client) {
    await call(client, "test_headers");
    await call(client, "my-hyphenated-tool");
    await client.readResource({ uri: "file:///path/to/file%20name.txt" });
    await client.getPrompt({ name: "test_prompt" });
  },
  async "http-custom-headers"(client) {
    for (const { name: tool, arguments: given } of context.toolCalls) await call(client, tool, given);
  },
  async "http-invalid-tool-headers"(client, tools) {
    // Whatever the gateway shows may be called.
    for (const tool of tools) {
      const fields = Object.keys(tool.inputSchema.properties ?? {});
      await call(client, tool.name, Object.fromEntries(fields.map((field) => [field, "x"])));
    }
  },
  async "json-schema-2020-12-preservation"(client, tools) {
    const rich = tools.find((tool) => tool.name === "json_schema_2020_12_tool");
    await call(client, "json_schema_echo", { schema: rich.inputSchema });
  },
};

await lockgate("create", "upstream", name, "--url", process.argv[2]);
try {
  await lockgate("create", "server", name, "--upstream", name, "--naming", "bare");
  const client = await connect();
  const { tools } = await client.listTools();
  await scenarios[scenario]?.(client, tools);
  await client.close();
} finally {
  await lockgate("delete", "server", name).catch(() => {});
  await lockgate("delete", "upstream", name).catch(() => {});
}
