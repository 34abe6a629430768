"""The Python SDK 1.x: python py1.py JOB"""

import asyncio
import contextlib
import warnings

import mcp.client.websocket
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from features import Heard, callbacks, run

warnings.simplefilter("ignore", DeprecationWarning)


def websocket(url, headers):
    # The SDK hands over no headers, and tokens do not belong into URLs.
    from websockets.asyncio.client import connect

    def with_headers(address, **options):
        return connect(address, additional_headers=headers, **options)

    mcp.client.websocket.ws_connect = with_headers
    return mcp.client.websocket.websocket_client(url)


def streams(job, endpoint):
    if job["transport"] == "stdio":
        command, *args = endpoint["command"]
        return stdio_client(
            StdioServerParameters(command=command, args=args, env=endpoint.get("env"))
        )
    ways = {"http": streamablehttp_client, "sse": sse_client, "ws": websocket}
    return ways[job["transport"]](endpoint["url"], job["headers"])


class Adapter:
    def __init__(self, session, heard):
        self.session, self.heard = session, heard
        # Of the requests, by the tasks that make them.
        self.ids = {}

    async def tools(self):
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def call(self, name, arguments, progress=None):
        self.ids[asyncio.current_task()] = self.session._request_id
        return await self.session.call_tool(name, arguments, progress_callback=progress)

    async def cancel(self, calling):
        # This SDK gives up without a word, so the word is said here.
        request = self.ids[calling]
        params = types.CancelledNotificationParams(requestId=request, reason="given up")
        await self.session.send_notification(
            types.ClientNotification(types.CancelledNotification(params=params))
        )
        calling.cancel()

    async def read(self, uri):
        return await self.session.read_resource(uri)

    async def prompt(self, name, arguments):
        return await self.session.get_prompt(name, arguments)

    async def complete(self, prompt, argument, value):
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        return await self.session.complete(reference, {"name": argument, "value": value})

    @contextlib.asynccontextmanager
    async def subscribed(self, uri):
        await self.session.subscribe_resource(uri)
        yield

    @contextlib.asynccontextmanager
    async def watching(self, _list):
        yield


@contextlib.asynccontextmanager
async def opened(job, endpoint):
    heard = Heard()

    async def message(message):
        if isinstance(message, types.ServerNotification):
            notice = message.root
            heard.take(notice.method, dict(notice.params or {}))

    async with streams(job, endpoint) as (reading, writing, *_):
        asked = callbacks(types, lambda params: params.requestedSchema)
        async with ClientSession(reading, writing, message_handler=message, **asked) as session:
            await session.initialize()
            yield Adapter(session, heard)


run(opened)
