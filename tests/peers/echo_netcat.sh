#!/bin/sh
# Talks to the echo example with netcat. Argument: the example's path.
set -eu
echo_program=$1
case $(nc -h 2>&1 || true) in
*OpenBSD*) ;;
*) echo "there is no nc of OpenBSD's kind here (Debian: netcat-openbsd)"; exit 77 ;;
esac

. "$(dirname "$0")/peers.sh"

start_server "$echo_program" 127.0.0.1:0
port=$(echo "$line" | sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p')
[ -n "$port" ] || fail "no port in '$line'"

# -N ends sending at the end of the input; nc ends when the server has ended, too.
answer=$(printf 'hello\n' | nc -N -w 10 127.0.0.1 "$port")
[ "$answer" = hello ] || fail "'$answer' came back instead of 'hello'"

head -c 1000000 /dev/urandom >"$work/sent"
nc -N -w 10 127.0.0.1 "$port" <"$work/sent" >"$work/received"
cmp "$work/sent" "$work/received" || fail "a million bytes came back otherwise than sent"

clients=
for i in 1 2 3 4 5 6 7 8; do
    head -c 100000 /dev/urandom >"$work/sent.$i"
    nc -N -w 10 127.0.0.1 "$port" <"$work/sent.$i" >"$work/received.$i" &
    clients="$clients $!"
done
for client in $clients; do wait "$client" || fail "a client failed"; done
for i in 1 2 3 4 5 6 7 8; do
    cmp "$work/sent.$i" "$work/received.$i" || fail "client $i got something else back"
done

kill -INT "$server"
status=0
wait "$server" || status=$?
server=
[ "$status" = 0 ] || fail "exit code $status after SIGINT"
read -r line <&3
[ "$line" = bye ] || fail "'$line' instead of 'bye' at the end"
