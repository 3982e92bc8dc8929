#!/bin/sh
# sh bench/micro.sh [FILTER]: runs the micro-benchmarks beside their floors, interleaved, and prints
# the ratios. Each figure is the median of the repetitions' CPU time, with the spread behind it. Of
# threads it is the time that passes, and how often somebody was woken for a burst of 100,000 items.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tests/setup.sh"
setup tests

set -- "${1:-.}"
for program in tasks group sync queue timers ring threads; do
    "$BUILD/bench/bench_$program" --benchmark_filter="$1" --benchmark_repetitions=9 \
        --benchmark_enable_random_interleaving=true --benchmark_min_time=0.05 \
        --benchmark_format=json >"$BUILD/bench_$program.json" 2>/dev/null
    set -- "$@" "$BUILD/bench_$program.json"
done
shift
exec python3 "$root/bench/micro/ratios.py" "$@"
