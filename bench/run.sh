#!/bin/sh
# sh bench/run.sh [--full | --smoke] [--compare OLD.json] [--only designs|servers|peers]
#
# Sets up what is missing, measures, and writes build/report/: index.html, report.md, results.json
# and the plots. Without an argument it takes less than five minutes, and --smoke, which only shows
# that everything still works, less than two, once all is compiled; --full takes its time.
# --compare tells what changed since an older results.json. --again RESULTS.json measures nothing
# and writes the report of those results.
# shellcheck disable=SC2086 # lists
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tests/setup.sh"
cd "$root"

usage() {
    sed -n '2,/^# shellcheck/{/shellcheck/d;s/^# \{0,1\}//p;}' bench/run.sh
    exit "$1"
}

# The python3 that has matplotlib: Debian's packages are for Debian's, which others may hide.
find_python() {
    for python in python3 /usr/bin/python3; do
        $python -c 'import matplotlib' 2>/dev/null && return
    done
    return 1
}

# Packages of servers start them at once. Not here.
without_services() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'as_root rm -f $policy' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    "$@"
)

is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'
}

# A peer that this Debian does not have is left out, and the report says so.
install_peers() {
    [ -f bench/peers/packages.sh ] && has dpkg-query || return 0
    peers_packages=
    . bench/peers/packages.sh
    for package in ${peers_packages:-}; do
        is_installed $package && continue
        if without_services install_packages $package; then
            missing="$missing $package" # so that the build is configured again
        else
            say "going on without $package"
        fi
    done
}

install_report() {
    wanted=
    find_python || wanted="$wanted python3-matplotlib"
    has valgrind && [ -e /usr/include/valgrind/callgrind.h ] || wanted="$wanted valgrind"
    has wrk || wanted="$wanted wrk"
    has size || wanted="$wanted binutils"
    [ -z "$wanted" ] || install_packages $wanted
    case $wanted in
    *valgrind*) touch bench/designs/program.cpp ;; # compiled without its header it counts nothing
    esac
    find_python || die "no python3 here has matplotlib"
}

# Programs that are there in this build, of those that a pattern names.
programs_like() {
    ninja -C "$BUILD" -t targets all | sed -n "s,^\($1\): c.*_LINKER.*,\1,p"
}

asked=${CXX:-}${MESON_ARGS:-}
only=
previous=
measures=true
for argument; do
    case $previous$argument in
    --only | --compare | --again) ;;
    --only=*) only="$only ${argument#--only=}" ;;
    --onlydesigns | --onlyservers | --onlypeers) only="$only $argument" ;;
    --full | --smoke | --compare=* | --compare*) ;;
    --again*) measures= ;;
    -h | --help) usage 0 ;;
    *) usage 2 ;;
    esac
    case $argument in
    --only | --compare | --again) previous=$argument ;;
    *) previous= ;;
    esac
done

install_report
[ -n "$measures" ] || exec $python bench/report/run.py --build "$BUILD" "$@"
install_missing tests
case $only in
'' | *peers*) install_peers ;;
esac
configure tests
quietly ninja -C "$BUILD" build.ninja || die "could not configure $BUILD"
targets=$(programs_like 'bench/designs/design_[a-z]*')
[ -n "$targets" ] || die "no design is in $BUILD: is it configured with -Dbench=true?"
for name in echo load raw_uring raw_epoll unix_pairs raw_unix_pairs; do
    targets="$targets bench/server_$name"
done
targets="$targets $(programs_like 'bench/peers/[^:]*') $(programs_like examples/http)"
compile $targets

exec $python bench/report/run.py --build "$BUILD" "$@"
