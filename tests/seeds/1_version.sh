. "$(dirname "$0")/common.sh"

ask 401 nobody GET /version >/dev/null
for who in basic bearer; do
  version=$(ask 200 $who GET /version)
  holds "$version" 'a["app"]["version"] and "mcp_protocol_version" in a["app"]'
  holds "$version" 'a["database"]["reachable"] is True and "password" not in str(a["database"]["url"])'
  holds "$version" 'a["uptime_seconds"] >= 0 and a["timestamp"] and a["platform"] is not None'
done
health=$(ask 200 nobody GET /health)
holds "$health" 'a["status"] == "healthy"'
ready=$(ask 200 nobody GET /ready)
holds "$ready" 'a["status"] == "ready"'
