#!/usr/bin/env bash
# The REST calls around a feed, with nothing but curl and Python's json: curl_feed.sh [FILTER]
#
# Subscribes, publishes three readings, shows which of them match and why, deletes the subscription.
# Reads HOTPATH_TOKEN and HOTPATH_URL (http://127.0.0.1:8080).
set -euo pipefail

service="${HOTPATH_URL:-http://127.0.0.1:8080}"
filter="${1:-value > 90}"

# call METHOD PATH [BODY]: a fault shows what the service says about it and ends the script.
call() {
    curl --silent --show-error --fail-with-body --request "$1" "$service$2" \
        --header "Authorization: Bearer $HOTPATH_TOKEN" \
        --header "Content-Type: application/json" \
        ${3:+--data "$3"}
}

# field NAME: one member of the JSON object on stdin.
field() {
    python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

wanted=$(python3 -c 'import json, sys
print(json.dumps({"filter": sys.argv[1], "subscriptionTTL": 60, "sasTokenTTL": 30}))' "$filter")
id=$(call POST /subscriptions/variables "$wanted" | field subscriptionId)
trap 'call DELETE "/subscriptions/variables/$id"' EXIT

call POST /messages/variables '[
  {"objectId": "boiler-1", "variable": "temperature", "value": 95.5},
  {"objectId": "boiler-2", "variable": "temperature", "value": 71.0},
  {"objectId": "boiler-3", "variable": "temperature", "value": 102.4}]' >/dev/null

# Looking takes nothing away: an AMQP client finds the same messages in the feed.
call GET "/subscriptions/variables/$id/messages?show=matched" |
    python3 -c 'import json, sys
for each in json.load(sys.stdin)["data"]:
    print(each["sequenceNumber"], each["state"], each["body"]["objectId"], each["body"]["value"])'
