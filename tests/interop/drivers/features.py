"""What every Python driver does: one feature after another, one JSON line for each.

The job (argv[1]) is {transport, mode, headers, endpoints: [{server, url | command, env, features}]};
`opened(job, endpoint)` is an asynchronous context manager that gives the adapter of one SDK.
"""

import asyncio
import json
import os
import sys
import uuid

PATIENCE = int(os.environ.get("INTEROP_PATIENCE", "15000")) / 1000
SAID = {"sampling": "a model said this", "elicitation": "a user wrote this"}


def filled(schema):
    """Fills a form: what is required, and the first text field."""
    properties = (schema or {}).get("properties", {})
    required = (schema or {}).get("required", [])
    texts = [
        name
        for name, field in properties.items()
        if field.get("type") == "string" and "enum" not in field and "format" not in field
    ]
    content = {name: SAID["elicitation"] for name in texts[:1]}
    values = {"boolean": True, "integer": 1, "number": 1, "string": SAID["elicitation"]}
    for name in required:
        field = properties[name]
        content[name] = field["enum"][0] if "enum" in field else values[field["type"]]
    return content


def callbacks(types, schema_of):
    """A user and a model, in the types of an official SDK."""

    async def sample(_context, _params):
        content = types.TextContent(type="text", text=SAID["sampling"])
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def elicit(_context, params):
        return types.ElicitResult(action="accept", content=filled(schema_of(params)))

    return {"sampling_callback": sample, "elicitation_callback": elicit}


def plain(answer):
    """Anything an SDK gives, as text."""
    dump = getattr(answer, "model_dump", None)
    value = dump(mode="json", by_alias=True, exclude_none=True) if dump else answer
    return json.dumps(value, default=plain) if not isinstance(value, str) else value


def contains(answer, expected):
    text = plain(answer)
    failed = getattr(answer, "isError", None) or getattr(answer, "is_error", None)
    assert not failed and expected in text, f"no {expected} in {text[:300]}"


class Heard:
    """Notifications of one client, as they come."""

    def __init__(self):
        self.notices = []
        self.changed = asyncio.Event()

    def take(self, method, params):
        self.notices.append((method, params))
        self.changed.set()

    async def first(self, method, matches=lambda params: True):
        while not any(name == method and matches(params) for name, params in self.notices):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), PATIENCE)


async def list_(client, it):
    names = await client.tools()
    assert it["tool"] in names, f"no {it['tool']} in {names}"


async def call(client, it):
    contains(await client.call(it["name"], it["arguments"]), it["expect"])


async def progress(client, it):
    seen = []

    async def report(progress, total=None, message=None):
        seen.append(progress)

    await client.call(it["name"], it["arguments"], progress=report)
    assert len(seen) >= it["reports"] and seen == sorted(set(seen)), f"reports {seen}"


async def cancel(client, it):
    tag = str(uuid.uuid4())
    seen = it["seen"]

    async def told(wanted):
        for left in range(100, 0, -1):
            answer = plain(await client.call(seen["name"], {"tag": tag}))
            if wanted in answer:
                return
            assert left > 1, f"the server does not say {wanted!r}: {answer}"
            await asyncio.sleep(0.1)

    calling = asyncio.ensure_future(client.call(it["name"], {**it["arguments"], "tag": tag}))
    await told(seen["begun"])
    await client.cancel(calling)
    try:
        await calling
        raise AssertionError("it answered all the same")
    except asyncio.CancelledError:
        pass
    await told(seen["expect"])


async def read(client, it):
    contains(await client.read(it["uri"]), it["expect"])


async def subscribe(client, it):
    async with client.subscribed(it["uri"]):
        await client.call(it["trigger"], {})
        try:
            await client.heard.first(
                "notifications/resources/updated",
                lambda params: str(params.get("uri")) == it["uri"],
            )
        finally:
            if it.get("again"):
                await client.call(it["trigger"], {})


async def prompt(client, it):
    contains(await client.prompt(it["name"], it["arguments"]), it["expect"])


async def completion(client, it):
    contains(await client.complete(it["prompt"], it["argument"], it["value"]), it["expect"])


async def sampling(client, it):
    contains(await client.call(it["name"], it["arguments"]), SAID["sampling"])


async def elicitation(client, it):
    contains(await client.call(it["name"], it["arguments"]), SAID["elicitation"])


async def list_changed(client, it):
    async with client.watching(it["list"]):
        await client.call(it["name"], it.get("arguments") or {})
        await client.heard.first(f"notifications/{it['list']}/list_changed")


FEATURES = {
    "list": list_,
    "call": call,
    "progress": progress,
    "cancel": cancel,
    "read": read,
    "subscribe": subscribe,
    "prompt": prompt,
    "completion": completion,
    "sampling": sampling,
    "elicitation": elicitation,
    "list_changed": list_changed,
}


def say(server, feature, error=None):
    line = {"server": server, "feature": feature}
    if error is not None:
        line["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(line), flush=True)


def first(error):
    """The reason in a group of them."""
    while getattr(error, "exceptions", None):
        error = error.exceptions[0]
    return error


async def serve(job, endpoint, opened):
    left = dict(endpoint["features"])
    try:
        async with asyncio.timeout(PATIENCE * 3) as patience, opened(job, endpoint) as client:
            for feature, it in endpoint["features"].items():
                patience.reschedule(asyncio.get_running_loop().time() + PATIENCE * 3)
                error = None
                try:
                    await asyncio.wait_for(FEATURES[feature](client, it), PATIENCE * 2)
                except Exception as failure:
                    error = first(failure)
                del left[feature]
                say(endpoint["server"], feature, error)
    except BaseException as failure:
        # What it did not come to failed for the same reason.
        for feature in left:
            say(endpoint["server"], feature, first(failure))


def run(opened):
    job = json.loads(sys.argv[1])

    async def main():
        for endpoint in job["endpoints"]:
            await serve(job, endpoint, opened)

    asyncio.run(main())
