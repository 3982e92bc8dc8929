#!/bin/sh
# Asks the http example by curl, and by netcat where curl is too well-behaved. Argument: its path.
set -eu
http_program=$1
command -v curl >/dev/null || { echo "there is no curl here"; exit 77; }
case $(nc -h 2>&1 || true) in
*OpenBSD*) ;;
*) echo "there is no nc of OpenBSD's kind here (Debian: netcat-openbsd)"; exit 77 ;;
esac
export no_proxy='*'

. "$(dirname "$0")/peers.sh"

# equal WANTED GOT WHAT
equal() { [ "$1" = "$2" ] || fail "$3: '$2' instead of '$1'"; }

# start ARGUMENT...: sets $server and $url, to which the program's arguments are added.
start() {
    start_server "$http_program" 127.0.0.1:0 "$@"
    url=${line%%/, *}
    port=${url##*:}
    case $port in *[!0-9]* | '') fail "no port in '$line'" ;; esac
}

stop() {
    kill "-$1" "$server"
    status=0
    wait "$server" || status=$?
    server=
    equal 0 "$status" "exit code after SIG$1"
    read -r line <&3
    equal bye "$line" "the last line"
}

get() { curl -sS --max-time 20 "$@"; }
code() { get -o /dev/null -w '%{http_code}' "$@"; }

# --- the greeting --------------------------------------------------------------------------

start
equal 'Hello, world!' "$(get "$url/")" "GET /"
equal '<!doctype html><title>Hello</title><p>Hello &lt;b&gt; &amp; c!' \
    "$(get "$url/hello/%3Cb%3E%20&%20c")" "GET /hello"
equal 404 "$(code "$url/nothing")" "what is not there"
equal 405 "$(code -d x "$url/")" "a POST"
equal 'GET, HEAD' "$(get -X PUT -D - -o /dev/null "$url/" | tr -d '\r' | sed -n 's/^Allow: //p')" \
    "Allow of a PUT"
equal 200 "$(code --http1.0 "$url/")" "HTTP/1.0"
equal 200 "$(code --http2 "$url/")" "an upgrade that is not taken"
equal 400 "$(code -H 'Host:' "$url/")" "no Host"
equal 431 "$(code -H "X: $(head -c 9000 /dev/zero | tr '\0' x)" "$url/")" "a long header"

# A hundred requests, one connection.
connects=$(get -o /dev/null -w '%{num_connects}\n' "$url/hello/[1-100]" | sort | uniq -c |
    tr -s ' \n' ' ')
equal ' 99 0 1 1 ' "$connects" "connections of a hundred requests"

# Fifty at once, which curl cannot.
for i in $(seq 50); do printf 'GET /hello/%s HTTP/1.1\r\nHost: a\r\n\r\n' "$i"; done >"$work/many"
answers=$(nc -N -w 10 127.0.0.1 "$port" <"$work/many" | sed -n 's/.*<p>Hello \(.*\)!/\1/p' |
    tr '\n' ' ')
equal "$(seq 50 | tr '\n' ' ')" "$answers" "answers to pipelined requests"
stop INT

# --- files ---------------------------------------------------------------------------------

mkdir -p "$work/www/sub"
echo '<p>index' >"$work/www/index.html"
echo '<p>sub' >"$work/www/sub/index.html"
head -c 20000000 /dev/urandom >"$work/www/large.bin"
head -c 4096 /dev/urandom >"$work/www/small.bin"
echo secret >"$work/secret"
start "$work/www"

equal '<p>index' "$(get "$url/")" "the index"
equal '<p>sub' "$(get -L "$url/sub")" "a directory's index"
equal Hello "$(get "$url/hello/x" | sed -n 's/.*<p>\(Hello\).*/\1/p')" "the route beside files"
equal 404 "$(code --path-as-is "$url/../secret")" "a way out"
equal 404 "$(code --path-as-is "$url/%2e%2e/secret")" "an encoded way out"
for file in small large; do
    get "$url/$file.bin" >"$work/got"
    cmp "$work/www/$file.bin" "$work/got" || fail "$file.bin came otherwise than it lies there"
    get -r 1000-2999 "$url/$file.bin" >"$work/got"
    dd if="$work/www/$file.bin" of="$work/part" bs=1000 skip=1 count=2 2>/dev/null
    cmp "$work/part" "$work/got" || fail "a range of $file.bin"
done
equal 206 "$(code -r 0-9999999 "$url/large.bin")" "half a file"
equal 416 "$(code -r 5000- "$url/small.bin")" "a range behind the end"
head -c 7000000 "$work/www/large.bin" >"$work/resumed"
get -C - -o "$work/resumed" "$url/large.bin"
cmp "$work/www/large.bin" "$work/resumed" || fail "a transfer that was resumed"

get -I "$url/large.bin" | tr -d '\r' >"$work/head"
equal 20000000 "$(sed -n 's/^Content-Length: //p' "$work/head")" "the length that HEAD tells"
etag=$(sed -n 's/^ETag: //p' "$work/head")
equal 304 "$(code -H "If-None-Match: $etag" "$url/large.bin")" "what the client has"
equal 304 "$(code -z "$work/www/large.bin" "$url/large.bin")" "what has not changed since"

# Four at once, slowly: whoever stops reading must not stop the others.
clients=
for i in 1 2 3 4; do
    get --limit-rate 30M -o "$work/got.$i" "$url/large.bin" &
    clients="$clients $!"
done
equal 4096 "$(get "$url/small.bin" | wc -c | tr -d ' ')" "a small file beside large ones"
for client in $clients; do wait "$client" || fail "a client failed"; done
for i in 1 2 3 4; do
    cmp "$work/www/large.bin" "$work/got.$i" || fail "client $i got something else"
done
stop TERM

# --- TLS -----------------------------------------------------------------------------------

if command -v openssl >/dev/null && ! "$http_program" 127.0.0.1:0 --tls /nowhere /nowhere 2>&1 |
    grep -q 'without OpenSSL'; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 -keyout "$work/key" -out "$work/cert" 2>/dev/null
    start "$work/www" --tls "$work/cert" "$work/key"
    case $url in https://*) ;; *) fail "no https in '$url'" ;; esac
    get --cacert "$work/cert" "$url/large.bin" >"$work/got"
    cmp "$work/www/large.bin" "$work/got" || fail "a large file by TLS"
    connects=$(get --cacert "$work/cert" -o /dev/null -w '%{num_connects}\n' "$url/hello/[1-9]" |
        sort | uniq -c | tr -s ' \n' ' ')
    equal ' 8 0 1 1 ' "$connects" "connections of nine requests by TLS"
    stop INT
fi
