# Sourced by the examples: how to ask and how to check. Needs curl and python3.

TOKEN=$("$LOCKGATE" --data-dir "$LOCKGATE_DATA_DIR" token create-jwt --username admin --exp 10080 --secret "$SECRET")

# ask STATUS AUTHENTICATION METHOD PATH [BODY]: the body of the answer, if it has the status.
ask() {
  local expected=$1 authentication=$2 method=$3 path=$4
  local arguments=(-sS -w '\n%{http_code}' -X "$method" "$GATEWAY$path")
  case $authentication in
    basic) arguments+=(-u "$BASIC") ;;
    bearer) arguments+=(-H "Authorization: Bearer $TOKEN") ;;
    nobody) ;;
  esac
  if [ $# -gt 4 ]; then
    arguments+=(-H 'Content-Type: application/json' -d "$5")
  fi
  local answer status
  answer=$(curl "${arguments[@]}")
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  if [ "$status" != "$expected" ]; then
    echo "$method $path as $authentication: status $status, not $expected: $answer" >&2
    return 1
  fi
  printf '%s' "$answer"
}

# holds JSON EXPRESSION: the Python expression over `a` is true.
holds() {
  A=$1 python3 -c 'import json, os, sys
a = json.loads(os.environ["A"])
sys.exit(0 if eval(sys.argv[1]) else f"not true: {sys.argv[1]}\nof {a}")' "$2"
}

# field JSON EXPRESSION: its value as text.
field() {
  A=$1 python3 -c 'import json, os, sys
a = json.loads(os.environ["A"])
print(eval(sys.argv[1]))' "$2"
}
