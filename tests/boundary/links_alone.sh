#!/bin/sh
# A program with a loop of its own holds no kernel, and nothing of io_uring. Argument: the program.
set -eu
program=$1
command -v nm >/dev/null || { echo "there is no nm here"; exit 77; }

symbols=$(nm -C "$program")
if echo "$symbols" | grep -E 'io_uring|trapline::Kernel(::|\(|\))|UringEngine'; then
    echo "$program holds a part of the kernel" >&2
    exit 1
fi
if ! echo "$symbols" | grep -q 'trapline::'; then
    echo "$program holds nothing of the library: the test proves nothing" >&2
    exit 1
fi
if command -v ldd >/dev/null && ldd "$program" | grep uring; then
    echo "$program needs liburing" >&2
    exit 1
fi
