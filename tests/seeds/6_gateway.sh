. "$(dirname "$0")/common.sh"

ask 200 bearer GET /gateways | grep -qx '\[\]'
body='{"name":"git_server","url":"'$MCP_SERVER'","transport":"STREAMABLEHTTP"}'
gateway=$(ask 200 bearer POST /gateways "$body" || ask 201 bearer POST /gateways "$body")
holds "$gateway" 'a["enabled"] is True and a["reachable"] is True and a["slug"] == "git-server" and a["id"]'
holds "$gateway" 'a["name"] == "git_server"'
ask 409 basic POST /gateways "$body" >/dev/null

tools=$(ask 200 basic GET /tools)
holds "$tools" '"git-server-echo" in {tool["name"] for tool in a}'
holds "$tools" 'all(tool["integrationType"] == "MCP" and tool["gatewaySlug"] == "git-server" for tool in a)'
listed=$(ask 200 bearer GET /gateways)
holds "$listed" 'len(a) == 1 and a[0]["name"] == "git_server"'

ask 503 bearer POST /gateways '{"name":"dead","url":"http://127.0.0.1:9/mcp"}' >/dev/null
