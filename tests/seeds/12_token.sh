. "$(dirname "$0")/common.sh"

lines=$(printf '%s\n' "$TOKEN" | wc -l)
[ "$lines" = 1 ]
[ "$(printf '%s' "$TOKEN" | tr -cd . | wc -c)" = 2 ]
ask 200 bearer GET /tools >/dev/null
TOKEN=$("$LOCKGATE" --data-dir "$LOCKGATE_DATA_DIR" token create-jwt -u admin -e 0 -s "$SECRET" 2>/dev/null)
ask 200 bearer GET /tools >/dev/null
TOKEN=$("$LOCKGATE" --data-dir "$LOCKGATE_DATA_DIR" token create-jwt -u admin -e 0 -s another-key 2>/dev/null)
ask 401 bearer GET /tools >/dev/null
