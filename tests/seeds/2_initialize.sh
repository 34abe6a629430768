. "$(dirname "$0")/common.sh"

snake='{"protocol_version":"2025-03-26","capabilities":{},"client_info":{"name":"MyClient","version":"1.0.0"}}'
camel='{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"MyClient","version":"1.0.0"}}'
for who in basic bearer; do
  for body in "$snake" "$camel"; do
    answer=$(ask 200 $who POST /protocol/initialize "$body")
    holds "$answer" 'a["protocolVersion"] == "2025-03-26" and "tools" in a["capabilities"]'
    holds "$answer" 'a["serverInfo"]["name"] and a["serverInfo"]["version"] and "jsonrpc" not in a'
  done
done
ask 400 basic POST /protocol/initialize '{"capabilities":{}}' >/dev/null
ask 401 nobody POST /protocol/initialize "$snake" >/dev/null
