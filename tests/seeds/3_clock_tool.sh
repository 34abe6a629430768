. "$(dirname "$0")/common.sh"

fresh=$(ask 200 bearer GET /tools)
holds "$fresh" 'a == []'

schema='{"type":"object","properties":{"timezone":{"type":"string"}},"required":[]}'
rest='"url":"'$API'/rpc","description":"Returns current time"'
tool=$(ask 200 basic POST /tools "{\"name\":\"clock_tool\",$rest,\"input_schema\":$schema}")
holds "$tool" 'a["integrationType"] == "REST" and a["requestType"] == "POST"'
holds "$tool" 'a["enabled"] is True and a["reachable"] is True and a["id"] and a["name"] and a["createdAt"]'
holds "$tool" 'a["inputSchema"]["properties"]["timezone"]["type"] == "string"'
ask 409 basic POST /tools "{\"name\":\"clock_tool\",$rest,\"input_schema\":$schema}" >/dev/null

ask 200 bearer POST /tools "{\"name\":\"clock_camel\",$rest,\"inputSchema\":$schema}" >/dev/null
ask 200 bearer POST /tools "{\"tool\":{\"name\":\"clock_wrapped\",$rest,\"input_schema\":$schema}}" >/dev/null
ask 422 bearer POST /tools '{"name":"no_url"}' >/dev/null

for path in /tools /tools/; do
  listed=$(ask 200 bearer GET $path)
  holds "$listed" 'len(a) == 3 and {tool["originalName"] for tool in a} == {"clock_tool", "clock_camel", "clock_wrapped"}'
done

name=$(field "$tool" 'a["name"]')
call='{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"NAME","arguments":{"timezone":"UTC"}}}'
session=$(curl -sS -D - -o /dev/null -u "$BASIC" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
  -d '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}' \
  "$GATEWAY/mcp" | tr -d '\r' | awk 'tolower($1) == "mcp-session-id:" { print $2 }')
for called in "$name" clock_tool clock-tool; do
  curl -sS -u "$BASIC" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H "Mcp-Session-Id: $session" -d "${call/NAME/$called}" "$GATEWAY/mcp" | grep -q UTC
done
