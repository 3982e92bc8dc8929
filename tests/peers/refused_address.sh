#!/bin/sh
# A server example that cannot listen, or is told nonsense, says so and fails. Argument: its path.
set -eu
program=$1
. "$(dirname "$0")/peers.sh"

# Answers what it says at ADDRESS, where it has to fail, and by itself.
refused() {
    status=0
    timeout 20 "$program" "$1" >"$work/said" 2>&1 || status=$?
    [ "$status" = 1 ] || fail "exit code $status at $1: $(cat "$work/said")"
    if grep -q bye "$work/said"; then fail "a friendly end at $1"; fi
    grep -q "$2" "$work/said" || fail "no '$2' at $1: $(cat "$work/said")"
}

start_server "$program" 127.0.0.1:0
port=$(echo "$line" | sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p')
[ -n "$port" ] || fail "no port in '$line'"

refused "127.0.0.1:$port" 'in use'
refused 'nowhere' 'nowhere'
