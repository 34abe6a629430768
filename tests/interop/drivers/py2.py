"""The Python SDK 2.x, in a mode such as `auto` or `legacy`: python py2.py JOB"""

import asyncio
import contextlib

import httpx2 as httpx
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ServerEvent  # noqa: F401
from mcp.shared.subscriptions import event_to_notification
from features import Heard, callbacks, run

MODERN = "2026-07-28"


@contextlib.asynccontextmanager
async def target(job, endpoint):
    if job["transport"] == "stdio":
        command, *args = endpoint["command"]
        yield StdioServerParameters(command=command, args=args, env=endpoint.get("env"))
    elif job["transport"] == "sse":
        yield sse_client(endpoint["url"], job["headers"])
    elif job["transport"] == "http":
        async with httpx.AsyncClient(headers=job["headers"], timeout=60) as http:
            yield streamable_http_client(endpoint["url"], http_client=http)
    else:
        raise NotImplementedError(f"this SDK has no {job['transport']}")


class Adapter:
    def __init__(self, client, heard):
        self.client, self.heard = client, heard
        self.modern = client.protocol_version == MODERN

    async def tools(self):
        return [tool.name for tool in (await self.client.list_tools(cache_mode="bypass")).tools]

    async def call(self, name, arguments, progress=None):
        return await self.client.call_tool(name, arguments, progress_callback=progress)

    async def cancel(self, calling):
        calling.cancel()

    async def read(self, uri):
        return await self.client.read_resource(uri)

    async def prompt(self, name, arguments):
        return await self.client.get_prompt(name, arguments)

    async def complete(self, prompt, argument, value):
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        return await self.client.complete(reference, {"name": argument, "value": value})

    @contextlib.asynccontextmanager
    async def _listening(self, **filters):
        async with self.client.listen(**filters) as subscription:

            async def follow():
                async for event in subscription:
                    notice = event_to_notification(event)
                    params = notice.params.model_dump() if notice.params else {}
                    self.heard.take(notice.method, params)

            following = asyncio.ensure_future(follow())
            yield
            following.cancel()

    @contextlib.asynccontextmanager
    async def subscribed(self, uri):
        if self.modern:
            async with self._listening(resource_subscriptions=[uri]):
                yield
        else:
            await self.client.subscribe_resource(uri)
            yield

    @contextlib.asynccontextmanager
    async def watching(self, which):
        if self.modern:
            async with self._listening(**{f"{which}_list_changed": True}):
                yield
        else:
            yield


@contextlib.asynccontextmanager
async def opened(job, endpoint):
    heard = Heard()

    async def message(message):
        notice = getattr(message, "root", message)
        if getattr(notice, "method", "").startswith("notifications/"):
            params = notice.params.model_dump() if notice.params else {}
            heard.take(notice.method, params)

    async with target(job, endpoint) as server:
        asked = callbacks(types, lambda params: params.requested_schema)
        async with Client(
            server, mode=job["mode"], message_handler=message, **asked
        ) as client:
            yield Adapter(client, heard)


run(opened)
