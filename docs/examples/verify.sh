#!/bin/sh
# Verify a number with curl: begin, ask the person for the code, check it.
# verify.sh NUMBER, with TEXTPROOF_URL and TEXTPROOF_KEY in the environment
set -eu

ask() {
    curl --silent --show-error --fail-with-body \
        --header "Authorization: Bearer $TEXTPROOF_KEY" \
        --header 'Content-Type: application/json' "$@"
}

begun=$(ask "$TEXTPROOF_URL/v1/verifications" --data "{\"to\": \"$1\"}") || {
    echo "$begun" >&2 # the problem
    exit 1
}
id=$(printf '%s' "$begun" | sed 's/^{"id":"\([^"]*\)".*/\1/')

echo 'Which code did you get?'
read -r code
ask "$TEXTPROOF_URL/v1/verifications/$id/check" --data "{\"code\": \"$code\"}"
