# What the peers in shell share, sourced by each: a folder for their files, processes that are
# stopped at the end, and a way to start a server. peers.py is the same for those in Python.
# shellcheck shell=sh disable=SC2034 # it is the others who use the variables
work=$(mktemp -d)
server= other= # processes
trap 'for pid in $server $other; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# start_server COMMAND...: sets $server, and $line to the first one that it prints, as soon as it
# listens: where that is. The others come by descriptor 3.
start_server() {
    rm -f "$work/out"
    mkfifo "$work/out"
    "$@" >"$work/out" &
    server=$!
    exec 3<"$work/out"
    read -r line <&3
}
