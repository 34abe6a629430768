"""Lists and calls tools with the Python SDK 2 over stdio: python client_py2_stdio.py URL TOKEN CALLS-AS-JSON MODE LOCKGATE"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


async def main() -> None:
    url, token, calls, mode, lockgate = sys.argv[1:]
    server = StdioServerParameters(
        command=lockgate, args=["connect", "--url", url], env={"MCP_AUTH": token}
    )
    async with Client(server, mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        results = []
        for call in json.loads(calls):
            result = await client.call_tool(call["name"], call["arguments"])
            results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
        print(json.dumps({"tools": tools, "results": results}))


asyncio.run(main())
