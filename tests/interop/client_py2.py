"""Lists and calls tools with the Python SDK 2: python client_py2.py URL TOKEN CALLS-AS-JSON MODE"""

import asyncio
import json
import sys

import httpx2 as httpx
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    url, token, calls, mode = sys.argv[1:]
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            results = []
            for call in json.loads(calls):
                result = await client.call_tool(call["name"], call["arguments"])
                results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            print(json.dumps({"tools": tools, "results": results}))


asyncio.run(main())
