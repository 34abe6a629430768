. "$(dirname "$0")/common.sh"

one=$(ask 200 bearer POST /tools '{"name":"one","url":"'$API'/one","input_schema":{"type":"object"}}')
two=$(ask 200 bearer POST /tools '{"name":"two","url":"'$API'/two","input_schema":{"type":"object"}}')
one=$(field "$one" 'a["id"]') two=$(field "$two" 'a["id"]')

shape() {
  printf '{"name":"%s","description":"Development and Git tools","%s":["%s","%s"]}' "$1" "$2" "$one" "$two"
}
server=$(ask 201 bearer POST /servers "$(shape development_tools associatedTools)")
holds "$server" 'a["id"] and a["name"] == "development_tools"'
holds "$server" "a['associatedTools'] == ['$one', '$two']"
ask 201 basic POST /servers "$(shape snake associated_tools)" >/dev/null
ask 201 basic POST /servers "{\"server\":$(shape wrapped associated_tools)}" >/dev/null
ask 400 basic POST /servers '{"name":"broken","associatedTools":["nobody"]}' >/dev/null
servers=$(ask 200 bearer GET /servers)
holds "$servers" 'len(a) == 3'

id=$(field "$server" 'a["id"]')
mcp() {
  curl -sS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' "$@" "$GATEWAY/servers/$id/mcp"
}
session=$(mcp -D - -o /dev/null -d '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}' |
  tr -d '\r' | awk 'tolower($1) == "mcp-session-id:" { print $2 }')
list=$(mcp -H "Mcp-Session-Id: $session" -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
holds "$list" 'sorted(tool["name"] for tool in a["result"]["tools"]) == ["one", "two"]'
