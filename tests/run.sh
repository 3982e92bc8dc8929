#!/bin/sh
# sh tests/run.sh [ARGUMENT...]: sets up what is missing, then runs the tests. Arguments are those
# of `meson test`, such as --suite ring. The last line is `N passed, N failed`.
# shellcheck disable=SC2086 # TARGETS is a list
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tests/setup.sh"

# TARGETS: what to compile, by default all.
(setup tests ${TARGETS:-}) || {
    echo "0 passed, 1 failed"
    exit 1
}

log=$BUILD/meson-logs/testlog.json
rm -f "$log"
status=0
meson test -C "$BUILD" --no-rebuild --print-errorlogs "$@" || status=$?
python3 "$root/tests/support/summary.py" "$log" || status=1
exit $status
