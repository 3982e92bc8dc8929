#!/bin/sh
# A short run of wrk against the http example: no errors, over all its connections. Argument: its
# path.
set -eu
http_program=$1
command -v wrk >/dev/null || { echo "there is no wrk here"; exit 77; }

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
mkfifo "$work/out"
mkdir "$work/www"
head -c 100000 /dev/urandom >"$work/www/file.bin"
"$http_program" 127.0.0.1:0 "$work/www" >"$work/out" &
server=$!
exec 3<"$work/out"
read -r line <&3
url=${line%%/, *}

for path in hello/wrk file.bin; do
    wrk -t 2 -c 100 -d 1s "$url/$path" >"$work/report"
    if grep -E 'Socket errors|Non-2xx' "$work/report" ||
        ! grep -q '[1-9][0-9]* requests in' "$work/report"; then
        cat "$work/report"
        exit 1
    fi
done
kill -TERM "$server"
wait "$server"
server=
