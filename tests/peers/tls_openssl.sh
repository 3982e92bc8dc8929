#!/bin/sh
# Talks to the TLS examples with OpenSSL's own client and server. Arguments: tls_echo, tls_ask.
set -eu
echo_program=$1
ask_program=$2
command -v openssl >/dev/null || { echo "there is no openssl here"; exit 77; }

. "$(dirname "$0")/peers.sh"

# certificate NAME SUBJECT EXTENSION [SIGNER]
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$2" \
        -addext "$3" -keyout "$work/$1.key" -out "$work/$1.pem" \
        ${4:+-CA "$work/$4.pem" -CAkey "$work/$4.key"} 2>/dev/null
}
if ! openssl req -help 2>&1 | grep -q -- '-CAkey'; then
    echo "openssl is too old to sign by req"
    exit 77
fi
certificate ca authority subjectKeyIdentifier=hash
certificate server example.org subjectAltName=DNS:example.org ca
certificate client ada subjectAltName=DNS:ada ca

start() {
    start_server "$echo_program" 127.0.0.1:0 --cert "$work/server.pem" \
        --key "$work/server.key" "$@" 2>"$work/errors"
    port=$(echo "$line" | sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p')
    [ -n "$port" ] || fail "no port in '$line'"
}

stop() {
    kill -INT "$server"
    status=0
    wait "$server" || status=$?
    server=
    [ "$status" = 0 ] || fail "exit code $status after SIGINT"
}

# client OPTION...: sends its standard input, and a Q to end; -ign_eof would wait for ever. What it
# says is in $work/answer.
client() {
    timeout 20 openssl s_client -connect "127.0.0.1:$port" -servername example.org \
        -verify_return_error -verify_hostname example.org -CAfile "$work/ca.pem" "$@" \
        >"$work/answer" 2>&1
}

# said PATTERN: whether the client has. Not by way of echo: a ticket may have a \c in it.
said() { grep -q "$1" "$work/answer"; }

# until_said PATTERN: for whoever writes the client's input.
until_said() {
    for _ in $(seq 200); do
        ! said "$1" || return 0
        sleep 0.05
    done
}

until_session() {
    for _ in $(seq 200); do
        [ ! -s "$work/session" ] || return 0
        sleep 0.05
    done
}

# What the last client has said does not count for the next one.
forget() { : >"$work/answer"; }

# The answer is there before the client ends: it ends when the server has.
connected='Verify return code'
start
for version in tls1_2 tls1_3; do
    forget
    (echo "hello by $version"; until_said "hello by $version"; echo Q) |
        client -$version -alpn echo
    said "hello by $version" || fail "no echo by $version: $(cat "$work/answer")"
    said 'ALPN protocol: echo' || fail "no ALPN by $version: $(cat "$work/answer")"
    said 'Verify return code: 0 (ok)' || fail "not verified: $(cat "$work/answer")"
done

# K asks for new keys of both sides, R for renegotiation; s_client tells what came of it.
forget
(until_said "$connected"; echo K; until_said KEYUPDATE; echo "new keys"; until_said "new keys"
    echo Q) | client -tls1_3
said "new keys" || fail "no echo after new keys: $(cat "$work/answer")"
forget
(until_said "$connected"; echo R; until_said 'no renegotiation'; echo Q) | client -tls1_2 || true
said 'no renegotiation' || fail "renegotiation is not refused: $(cat "$work/answer")"

for version in tls1_2 tls1_3; do
    rm -f "$work/session"
    (until_session; echo Q) | client -$version -sess_out "$work/session"
    forget
    (until_said "$connected"; echo Q) | client -$version -sess_in "$work/session"
    said '^Reused, ' || fail "$version is not resumed: $(cat "$work/answer")"
done

# Without the letters that s_client takes for commands of its own: OpenSSL 3.5 knows more of them.
head -c 2000000 /dev/urandom | base64 -w 70 | tr A-Zk x >"$work/sent"
: >"$work/received"
until_received() {
    for _ in $(seq 150); do
        ! cmp -s "$work/sent" "$work/received" || return 0
        sleep 0.1
    done
}
(cat "$work/sent"; until_received) | timeout 20 openssl s_client -connect "127.0.0.1:$port" -quiet \
    -no_ign_eof >"$work/received" 2>/dev/null || true
cmp "$work/sent" "$work/received" || fail "two million bytes came back otherwise than sent"

# What is refused is told in a sentence, and the others are served.
client -tls1_1 -cipher ALL:@SECLEVEL=0 </dev/null && fail "TLS 1.1 is served"
printf 'GET / HTTP/1.0\r\n\r\n' | timeout 20 openssl s_client -connect "127.0.0.1:$port" \
    -alpn nothing >/dev/null 2>&1 && fail "an unknown protocol is served"
stop
grep -q 'TLS handshake with 127.0.0.1:[0-9]*: ' "$work/errors" || fail "$(cat "$work/errors")"

start --ca "$work/ca.pem"
forget
(echo "it is me"; until_said "it is me"; echo Q) |
    client -cert "$work/client.pem" -key "$work/client.key"
said "it is me" || fail "no echo with a client certificate: $(cat "$work/answer")"
forget
(echo "it is me"; until_said 'alert certificate required'; echo Q) | client || true
said "it is me" && fail "served without a client certificate: $(cat "$work/answer")"
stop
grep -q 'peer did not return a certificate' "$work/errors" || fail "$(cat "$work/errors")"

# Our client, OpenSSL's server: -rev answers each line reversed. It finds no free port itself.
for port in 25443 25444 25445 25446; do
    openssl s_server -accept "127.0.0.1:$port" -rev -cert "$work/server.pem" \
        -key "$work/server.key" >"$work/server.out" 2>&1 &
    other=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        grep -q ACCEPT "$work/server.out" && break 2
        sleep 0.1
    done
    kill "$other" 2>/dev/null || true
    other=
done
[ -n "$other" ] || { echo "no port for s_server"; exit 77; }
answer=$("$ask_program" "127.0.0.1:$port" example.org --ca "$work/ca.pem" "abc") ||
    fail "tls_ask with s_server"
[ "$answer" = cba ] || fail "'$answer' instead of 'cba'"
answer=$("$ask_program" "127.0.0.1:$port" example.net --ca "$work/ca.pem" "abc" 2>&1) &&
    fail "another host's certificate is taken"
[ "$answer" = "tls_ask: TLS handshake with example.net: certificate is not valid for host \
example.net (it is for example.org)" ] || fail "$answer"
answer=$("$ask_program" "127.0.0.1:$port" example.org "abc" 2>&1) && fail "a stranger is trusted"
[ "$answer" = "tls_ask: TLS handshake with example.org: certificate is of an issuer who is not \
trusted" ] || fail "$answer"
