#!/bin/sh
# sh examples/run.sh [NAME [ARGUMENT...]]: sets up what is missing, then runs an example (demo).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tests/setup.sh"

name=${1:-demo}
[ $# = 0 ] || shift
if [ ! -e "$root/examples/$name.cpp" ]; then
    echo "There is no example '$name'. There are:" >&2
    for file in "$root"/examples/*.cpp; do
        echo "    $(basename "$file" .cpp)" >&2
    done
    exit 2
fi

setup examples "examples/$name"
# The example takes this process over, so that whoever supervises it signals the example itself.
exec "$BUILD/examples/$name" "$@"
