"""The client of fastmcp: python fastmcp_client.py JOB"""

import contextlib

import fastmcp
import mcp_types as types
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from features import SAID, Heard, filled, run


def transport(job, endpoint):
    if job["transport"] == "stdio":
        command, *args = endpoint["command"]
        return StdioTransport(command, args, env=endpoint.get("env"), keep_alive=False)
    ways = {"http": StreamableHttpTransport, "sse": SSETransport}
    if job["transport"] not in ways:
        raise NotImplementedError(f"fastmcp has no {job['transport']}")
    return ways[job["transport"]](endpoint["url"], headers=job["headers"])


class Adapter:
    def __init__(self, client, heard):
        self.client, self.heard = client, heard

    async def tools(self):
        return [tool.name for tool in await self.client.list_tools()]

    async def call(self, name, arguments, progress=None):
        return await self.client.call_tool_mcp(name, arguments, progress_handler=progress)

    async def cancel(self, calling):
        calling.cancel()

    async def read(self, uri):
        return [content.model_dump(mode="json") for content in await self.client.read_resource(uri)]

    async def prompt(self, name, arguments):
        return await self.client.get_prompt(name, arguments)

    async def complete(self, prompt, argument, value):
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        return await self.client.complete(reference, {"name": argument, "value": value})

    @contextlib.asynccontextmanager
    async def subscribed(self, uri):
        await self.client.session.subscribe_resource(uri)
        yield

    @contextlib.asynccontextmanager
    async def watching(self, _which):
        yield


@contextlib.asynccontextmanager
async def opened(job, endpoint):
    heard = Heard()

    async def sample(_messages, _params, _context):
        return SAID["sampling"]

    async def elicit(_message, _type, params, _context):
        return fastmcp.client.elicitation.ElicitResult(
            action="accept", content=filled(params.requested_schema)
        )

    async def message(message):
        notice = getattr(message, "root", message)
        if getattr(notice, "method", "").startswith("notifications/"):
            heard.take(notice.method, notice.params.model_dump() if notice.params else {})

    async with fastmcp.Client(
        transport(job, endpoint),
        sampling_handler=sample,
        elicitation_handler=elicit,
        message_handler=message,
    ) as client:
        yield Adapter(client, heard)


run(opened)
