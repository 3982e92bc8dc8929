#!/bin/sh
# Talks to the examples with socat, over TCP and Unix-domain sockets, as their client and as the
# server behind the proxy. Arguments: the paths of the echo and of the proxy example.
set -eu
echo_program=$1
proxy_program=$2
if ! command -v socat >/dev/null; then
    echo "there is no socat here (Debian: socat)"
    exit 77
fi

. "$(dirname "$0")/peers.sh"

# start NAME PROGRAM ARGUMENT...: answers the first line, in which it says where it listens, in
# $line, and its process in $pid.
start() {
    name=$1
    shift
    mkfifo "$work/$name.out"
    "$@" >"$work/$name.out" 2>"$work/$name.log" &
    pid=$!
    other="$other $pid"
    exec 3<"$work/$name.out"
    read -r line <&3 || fail "$name did not start: $(cat "$work/$name.log")"
    # The rest is read to a file, so that what is printed never blocks.
    cat <&3 >"$work/$name.rest" &
    exec 3<&-
}

port_in() { echo "$1" | sed -n 's/^[^:]*127\.0\.0\.1:\([0-9]*\).*/\1/p'; }

# listens PID FILE: waits until socat says so in its log.
listens() {
    for _ in $(seq 2000); do
        ! grep -q 'listening on' "$2" || return 0
        kill -0 "$1" 2>/dev/null || fail "socat ended: $(cat "$2")"
        sleep 0.005
    done
    fail "socat does not listen: $(cat "$2")"
}

# same ADDRESS...: a megabyte comes back from there as it was sent.
head -c 1000000 /dev/urandom >"$work/sent"
same() {
    socat -t 10 STDIO "$@" <"$work/sent" >"$work/received" || fail "socat to $*"
    cmp "$work/sent" "$work/received" || fail "a million bytes came back from $* otherwise"
}

# The echo example over TCP, over a Unix-domain socket, and from a socket with a small window.
start echo "$echo_program" 127.0.0.1:0
echo_pid=$pid
echo_port=$(port_in "$line")
[ -n "$echo_port" ] || fail "no port in '$line'"
same "TCP4:127.0.0.1:$echo_port"
same "TCP4:127.0.0.1:$echo_port,rcvbuf=2048,sndbuf=2048"
start local_echo "$echo_program" "unix:$work/echo"
local_pid=$pid
same "UNIX-CONNECT:$work/echo"

# Eight at once.
clients=
for i in 1 2 3 4 5 6 7 8; do
    socat -t 10 STDIO "TCP4:127.0.0.1:$echo_port" <"$work/sent" >"$work/received.$i" &
    clients="$clients $!"
done
for client in $clients; do wait "$client" || fail "a client failed"; done
for i in 1 2 3 4 5 6 7 8; do
    cmp "$work/sent" "$work/received.$i" || fail "client $i got something else back"
done

# Through the proxy to the echo example.
start proxy "$proxy_program" 127.0.0.1:0 "127.0.0.1:$echo_port"
proxy_pid=$pid
proxy_port=$(port_in "$line")
[ -n "$proxy_port" ] || fail "no port in '$line'"
same "TCP4:127.0.0.1:$proxy_port"

# From a Unix-domain socket through the proxy to one where socat listens, and answers to the whole
# of a request: each direction ends by itself.
socat -d -d UNIX-LISTEN:"$work/behind",fork SYSTEM:'wc -c' 2>"$work/behind.log" &
behind_pid=$!
other="$other $behind_pid"
listens "$behind_pid" "$work/behind.log"
start local_proxy "$proxy_program" "unix:$work/proxy" "unix:$work/behind"
local_proxy_pid=$pid
count=$(socat -t 10 STDIO UNIX-CONNECT:"$work/proxy" <"$work/sent" | tr -d ' ')
[ "$count" = 1000000 ] || fail "'$count' bytes came through the proxy instead of 1000000"

# One socat at each end of a chain: TCP, our proxy, a Unix-domain socket, socat, our echo.
socat -d -d UNIX-LISTEN:"$work/relay",fork "TCP4:127.0.0.1:$echo_port" 2>"$work/relay.log" &
relay_pid=$!
other="$other $relay_pid"
listens "$relay_pid" "$work/relay.log"
start chain "$proxy_program" 127.0.0.1:0 "unix:$work/relay"
chain_pid=$pid
same "TCP4:127.0.0.1:$(port_in "$line")"

# Nobody behind: the client is told by the end of the stream, and the proxy goes on.
kill "$behind_pid"
wait "$behind_pid" 2>/dev/null || true
answer=$(socat -t 10 STDIO UNIX-CONNECT:"$work/proxy" </dev/null 2>/dev/null || true)
[ -z "$answer" ] || fail "'$answer' came from nobody"
grep -q 'connect to unix:.*behind: ' "$work/local_proxy.log" ||
    fail "nothing is logged of a server that is gone: $(cat "$work/local_proxy.log")"

for pid in $echo_pid $local_pid $proxy_pid $local_proxy_pid $chain_pid; do
    kill -INT "$pid"
    status=0
    wait "$pid" || status=$?
    [ "$status" = 0 ] || fail "exit code $status after SIGINT"
done
kill "$relay_pid"
other=
