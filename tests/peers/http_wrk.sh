#!/bin/sh
# A short run of wrk against the http example: no errors, over all its connections. Argument: its
# path.
set -eu
http_program=$1
command -v wrk >/dev/null || { echo "there is no wrk here"; exit 77; }

. "$(dirname "$0")/peers.sh"
mkdir "$work/www"
head -c 100000 /dev/urandom >"$work/www/file.bin"
start_server "$http_program" 127.0.0.1:0 "$work/www"
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
