// What every TypeScript driver does: one feature after another, one JSON line for each.
//
// The job (argv[2]) is {transport, mode, headers, endpoints: [{server, url | command, env, features}]};
// `open(job, endpoint, asked)` gives the adapter of one SDK, where `asked` answers questions.
import { randomUUID } from "node:crypto";

const PATIENCE = Number(process.env.INTEROP_PATIENCE ?? 15000);

function within(promise, what, ms = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

function contains(answer, expected) {
  const text = JSON.stringify(answer);
  expect(!answer.isError && text.includes(expected), `no ${expected} in ${text.slice(0, 300)}`);
}

// What the client answers when it is asked; a server's answer must contain it.
export const said = { sampling: "a model said this", elicitation: "a user wrote this" };

// Fills a form: what is required, or the first text field.
export function filled(schema) {
  const properties = Object.entries(schema?.properties ?? {});
  const wanted = properties.filter(([name]) => (schema.required ?? []).includes(name));
  const texts = properties.filter(([, field]) => field.type === "string" && !field.enum && !field.format);
  const content = Object.fromEntries(texts.slice(0, 1).map(([name]) => [name, said.elicitation]));
  for (const [name, field] of wanted) {
    const values = { boolean: true, integer: 1, number: 1, string: said.elicitation };
    content[name] = field.enum?.[0] ?? values[field.type];
  }
  return content;
}

const features = {
  async list(client, { tool }) {
    const names = await client.tools();
    expect(names.includes(tool), `no ${tool} in ${names}`);
  },
  async call(client, { name, arguments: given, expect: expected }) {
    contains(await client.call(name, given), expected);
  },
  async progress(client, { name, arguments: given, reports }) {
    const seen = [];
    await client.call(name, given, { onprogress: (report) => seen.push(report.progress) });
    expect(seen.length >= reports, `${seen.length} reports`);
    expect(seen.every((value, at) => at === 0 || value > seen[at - 1]), `reports ${seen}`);
  },
  async cancel(client, { name, arguments: given, seen }) {
    const tag = randomUUID();
    const abort = new AbortController();
    const call = client.call(name, { ...given, tag }, { signal: abort.signal });
    const ended = call.then(() => "answered", () => "given up");
    const told = async (wanted) => {
      for (let left = 100; ; left -= 1) {
        const answer = JSON.stringify(await client.call(seen.name, { tag }));
        if (answer.includes(wanted)) break;
        expect(left > 0, `the server does not say "${wanted}": ${answer}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    await told(seen.begun);
    abort.abort(new Error("given up"));
    expect((await ended) === "given up", "it answered all the same");
    await told(seen.expect);
  },
  async read(client, { uri, expect: expected }) {
    contains(await client.read(uri), expected);
  },
  async subscribe(client, { uri, trigger, again }) {
    const heard = new Promise((resolve) => {
      client.on("notifications/resources/updated", (params) => params.uri === uri && resolve());
    });
    await client.subscribe(uri);
    await client.call(trigger, {});
    await within(heard, "no update").finally(() => again && client.call(trigger, {}));
  },
  async prompt(client, { name, arguments: given, expect: expected }) {
    contains(await client.prompt(name, given), expected);
  },
  async completion(client, { prompt, argument, value, expect: expected }) {
    contains(await client.complete(prompt, argument, value), expected);
  },
  async sampling(client, { name, arguments: given }) {
    contains(await client.call(name, given), said.sampling);
  },
  async elicitation(client, { name, arguments: given }) {
    contains(await client.call(name, given), said.elicitation);
  },
  async list_changed(client, { name, arguments: given, list }) {
    const heard = new Promise((resolve) => client.on(`notifications/${list}/list_changed`, resolve));
    await client.watch(list);
    await client.call(name, given ?? {});
    await within(heard, "no list_changed");
  },
};

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function serve(job, endpoint, open) {
  const wanted = Object.entries(endpoint.features);
  let client;
  try {
    client = await within(open(job, endpoint), "no connection");
  } catch (error) {
    for (const [feature] of wanted) say({ server: endpoint.server, feature, error: `connect: ${error}` });
    return;
  }
  for (const [feature, given] of wanted) {
    try {
      expect(client.can?.(feature) ?? true, "this client does not offer it");
      await within(features[feature](client, given), feature, 2 * PATIENCE);
      say({ server: endpoint.server, feature });
    } catch (error) {
      say({ server: endpoint.server, feature, error: String(error) });
    }
  }
  await within(client.close(), "no end").catch(() => {});
}

export async function run(open) {
  const job = JSON.parse(process.argv[2]);
  process.on("unhandledRejection", (error) => console.error("unhandled:", error));
  for (const endpoint of job.endpoints) await serve(job, endpoint, open);
  process.exit(0);
}
