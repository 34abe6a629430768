"""A server on fastmcp over Streamable HTTP: python server_fastmcp.py PORT"""

import asyncio
import itertools
import sys

import mcp_types as types
from fastmcp import Context, FastMCP

server = FastMCP("interop")
numbers = itertools.count(1)
# What became of the sleeps, by their tags.
sleeps = {}


@server.tool
def echo(message: str) -> str:
    """Gives the message back."""
    return message


@server.tool
async def count(steps: int, ctx: Context) -> str:
    """Counts, and reports it."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await asyncio.sleep(0.05)
    return f"counted to {steps}"


@server.tool
async def sleep(seconds: float, tag: str = "") -> str:
    """Answers after some seconds."""
    sleeps[tag] = "it sleeps"
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        sleeps[tag] = "it was given up"
        raise
    sleeps[tag] = "it was not"
    return f"slept {seconds} s"


@server.tool
def given_up(tag: str) -> str:
    """Whether a sleep was cancelled."""
    return sleeps.get(tag, "it was not")


@server.tool
async def ask(ctx: Context) -> str:
    """Asks the user for a text."""
    answer = await ctx.elicit("What shall it be?", response_type=str)
    return f"{answer.action}: {getattr(answer, 'data', None)}"


@server.tool
async def grow(ctx: Context) -> str:
    """Adds a tool to the list."""
    number = next(numbers)

    def grown() -> str:
        return str(number)

    server.add_tool(fastmcp_tool(grown, f"grown_{number}"))
    await ctx.send_notification(types.ToolListChangedNotification())
    return f"grown_{number}"


def fastmcp_tool(function, name):
    from fastmcp.tools import Tool

    return Tool.from_function(function, name=name)


@server.resource("interop://note")
def note() -> str:
    return "a note of fastmcp"


@server.prompt
def poem(subject: str) -> str:
    return f"Write a poem about {subject}."


@server.completion
async def complete(ref, argument, context) -> list[str]:
    return [word for word in ["paris", "park", "party"] if word.startswith(argument.value)]


server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
