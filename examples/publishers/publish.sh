#!/bin/sh
# HUB_TOKEN=$(txsse token --key-file key --audience "$HUB_URL" --publish news) sh publish.sh news 'Hello'
# Needs curl and HUB_URL, such as http://localhost:8080/.well-known/mercure. Prints the id of the update.
set -eu
topic=$1 text=$2

# With its own id, an update can be published again if the response was lost: it appears once.
id=urn:uuid:$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen | tr A-F a-f)

# Pass the token by stdin: all users of the machine can read command lines.
printf 'header = "Authorization: Bearer %s"\n' "$HUB_TOKEN" |
    curl --config - --silent --show-error --fail-with-body --max-time 30 --retry 5 --retry-connrefused \
        --data-urlencode "topic=$topic" --data-urlencode "data=$text" --data-urlencode "id=$id" "$HUB_URL"
echo
