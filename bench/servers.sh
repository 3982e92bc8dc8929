#!/bin/sh
# Compares echo servers: ours on both engines, recorded, and inside other loops, raw io_uring and raw
# epoll over TCP, ours with OpenSSL on raw epoll over TLS, ours with recvmmsg over UDP, and ours with
# raw io_uring over socket pairs within one process; proxies: ours and socat; and ways to send: with
# and without zero-copy, and files. Prints tables, and writes build/servers.json.
#
#     sh bench/servers.sh                 all of it, about eight minutes
#     sh bench/servers.sh tcp|inside|tls|udp|proxy|zero-copy|sendfile|unix|memory
#                         [--rounds 9] [--seconds 1] [--build build]
#
# Processor time a request or a byte is the figure to look at: rates depend on what else the machine
# does. Rounds in which the host or other processes took the processor away are repeated.
set -eu
cd "$(dirname "$0")/.."

build=build
previous=
for argument; do
    [ "$previous" = --build ] && build=$argument
    previous=$argument
done

if [ ! -f "$build/build.ninja" ]; then
    if [ -z "${CXX:-}" ] && command -v clang++-19 >/dev/null; then
        export CXX=clang++-19 CC=clang-19
    fi
    meson setup "$build"
fi
programs=
for name in echo raw_uring raw_epoll load udp_echo raw_udp load_udp load_stream unix_pairs \
    raw_unix_pairs send_zc sendfile; do
    programs="$programs bench/server_$name"
done
if ninja -C "$build" -t query examples/proxy >/dev/null 2>&1; then
    programs="$programs examples/proxy"
fi
if ninja -C "$build" -t query bench/server_echo_asio >/dev/null 2>&1; then
    programs="$programs bench/server_echo_asio"
fi
if ninja -C "$build" -t query bench/server_raw_tls_epoll >/dev/null 2>&1; then
    programs="$programs bench/server_tls_echo bench/server_raw_tls_epoll"
fi
# shellcheck disable=SC2086 # a list
ninja -C "$build" $programs | tail -n 1
exec python3 bench/servers/rounds.py "$@"
