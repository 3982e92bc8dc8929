#!/bin/sh
# Compares the http example with nginx: a short text, and a file of 4 KiB. Prints a table, and
# writes build/http.json.
#
#     sh bench/http.sh                 both, about two minutes
#     sh bench/http.sh text|file [--rounds 9] [--seconds 1] [--build build]
#
# Processor time a request is the figure to look at: rates depend on what else the machine does.
# Needs wrk; without nginx there is nothing to compare with, and our own figures alone are printed.
set -eu
cd "$(dirname "$0")/.."

if ! command -v wrk >/dev/null; then
    echo "bench/http.sh: there is no wrk here (Debian: wrk)" >&2
    exit 77
fi
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] ||
    echo "bench/http.sh: there is no nginx here (Debian: nginx-light)" >&2

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
if ! ninja -C "$build" examples/http | tail -n 1; then
    echo "bench/http.sh: the http example cannot be built (it needs llhttp)" >&2
    exit 1
fi
exec python3 bench/servers/http_rounds.py "$@"
