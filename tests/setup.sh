# Sourced by examples/run.sh and tests/run.sh, which set $root to the checkout.
#
#   setup examples TARGET    installs, configures and compiles what one example needs
#   setup tests [TARGET...]  the same for everything there is, or for some tests
#
# What is in place is left alone, and when all of it is, nothing is said. From the environment:
#   BUILD        the build folder (default: build/ in the checkout)
#   CXX          the compiler (default: g++ if it is 13 or newer, else clang++-19)
#   MESON_ARGS   more options for `meson setup`, such as -Db_sanitize=address,undefined
# shellcheck shell=sh disable=SC2086

: "${BUILD:=$root/build}"

say() { echo "trapline: $*" >&2; }

die() {
    say "$@"
    exit 1
}

# Runs a command in silence, and shows what it wrote if it fails.
quietly() {
    log=$(mktemp)
    status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] || cat "$log" >&2
    rm -f "$log"
    return $status
}

has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        --no-install-recommends "$@"
}

install_packages() {
    has apt-get || die "please install what Debian calls $*"
    [ "$(id -u)" = 0 ] || has sudo || die "please run as root: apt-get install $*"
    say "installing $*"
    # Without package lists, or with old ones that name files long gone, the first attempt fails.
    apt_get install "$@" >/dev/null 2>&1 </dev/null && return
    quietly apt_get update || say "going on with the package lists there are"
    quietly apt_get install "$@" || die "could not install $*"
}

# The major version of g++ that Debian would install, 0 if apt knows none.
candidate_of_gxx() {
    version=$(LC_ALL=C apt-cache policy g++ | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}//p')
    version=${version%%.*}
    case $version in
    '' | *[!0-9]*) echo 0 ;;
    *) echo "$version" ;;
    esac
}

# Where apt knows neither, the example is left out of the build.
package_of_llhttp() {
    has apt-cache || return 0
    apt-cache show meson >/dev/null 2>&1 || quietly apt_get update >&2 || return 0
    for package in libllhttp-dev node-llhttp; do
        if apt-cache show $package 2>/dev/null | grep -q '^Filename:'; then
            echo $package
            return
        fi
    done
}

choose_compiler() {
    if [ -n "${CXX:-}" ]; then
        has "${CXX%% *}" || die "CXX names '$CXX', which is not here"
    elif has g++ && version=$(g++ -dumpversion) && [ "${version%%.*}" -ge 13 ]; then
        CXX=g++
    elif has clang++-19; then
        CXX=clang++-19
    elif ! has apt-cache; then
        missing="$missing g++-13"
    else
        [ "$(candidate_of_gxx)" != 0 ] || quietly apt_get update || die "no package lists"
        if [ "$(candidate_of_gxx)" -ge 13 ]; then
            CXX=g++
            missing="$missing g++"
        else
            CXX=clang++-19
            missing="$missing clang-19"
        fi
    fi
    # A C compiler of the same make, for the benchmarks that are written in C.
    : "${CC:=$(echo "${CXX:-}" | sed 's/clang++/clang/; s/g++/gcc/')}"
    export CXX CC
}

install_missing() {
    missing=
    has meson || missing="$missing meson"
    has ninja || missing="$missing ninja-build"
    has pkg-config || missing="$missing pkg-config"
    pkg-config --exists 'liburing >= 2.3' 2>/dev/null || missing="$missing liburing-dev"
    pkg-config --exists libcares 2>/dev/null || missing="$missing libc-ares-dev"
    if [ "$1" = tests ]; then
        has python3 || missing="$missing python3"
        has openssl || missing="$missing openssl"
        has nc || missing="$missing netcat-openbsd"
        has curl || missing="$missing curl"
        has wrk || missing="$missing wrk"
        has socat || missing="$missing socat"
        [ -e /usr/include/doctest/doctest.h ] || missing="$missing doctest-dev"
        pkg-config --exists benchmark 2>/dev/null || missing="$missing libbenchmark-dev"
    fi
    case $* in
    tests* | *tls* | *http)
        pkg-config --exists 'openssl >= 3.0' 2>/dev/null || missing="$missing libssl-dev" ;;
    esac
    case $* in
    tests* | *asio_loop) [ -e /usr/include/asio.hpp ] || missing="$missing libasio-dev" ;;
    esac
    case $* in
    tests* | *glib_loop)
        pkg-config --exists gio-unix-2.0 2>/dev/null || missing="$missing libglib2.0-dev" ;;
    esac
    case "$1 ${2:-}" in
    tests* | *examples/http)
        # The web server's parser: a library on Debian 13, C sources in a package of Debian 12.
        llhttp=
        pkg-config --exists libllhttp 2>/dev/null || [ -e /usr/share/llhttp/llhttp.c ] ||
            llhttp=$(package_of_llhttp)
        missing="$missing${llhttp:+ $llhttp}" ;;
    esac
    choose_compiler
    case "$CXX ${MESON_ARGS:-}" in
    clang++-19*b_sanitize*)
        # Debian only recommends the sanitizers' run-time library to those who install clang.
        [ -e /usr/lib/llvm-19/lib/clang/19/lib/linux ] || missing="$missing libclang-rt-19-dev" ;;
    esac

    [ -z "$missing" ] || install_packages $missing
}

configure() {
    options=
    [ "$1" = tests ] || options='-Dtests=false -Dbench=false'
    wanted="CXX='$CXX' MESON_ARGS='${MESON_ARGS:-}'"

    if [ ! -e "$BUILD/build.ninja" ]; then
        say "configuring $BUILD for $CXX"
        quietly meson setup $options ${MESON_ARGS:-} "$BUILD" "$root" ||
            die "could not configure $BUILD"
        echo "$wanted" >"$BUILD/wanted"
        [ "$1" = tests ] || touch "$BUILD/examples_only"
    elif [ -n "$asked" ] && [ -e "$BUILD/wanted" ] && [ "$wanted" != "$(cat "$BUILD/wanted")" ]; then
        die "$BUILD is for $(cat "$BUILD/wanted"), not $wanted: remove it or set BUILD"
    elif [ "$1" = tests ] && [ -e "$BUILD/examples_only" ]; then
        quietly meson setup --reconfigure -Dtests=true -Dbench=true "$BUILD" "$root" ||
            die "could not configure $BUILD"
        rm "$BUILD/examples_only"
    elif [ -n "$missing" ]; then
        # What was just installed may be what the build did without so far.
        quietly meson setup --reconfigure "$BUILD" "$root" || die "could not configure $BUILD"
    fi
    if [ "${2:-}" = examples/http ] && ! has_http; then
        quietly meson setup --reconfigure "$BUILD" "$root" || die "could not configure $BUILD"
        has_http || die "the example http needs llhttp, which is not to be had here"
    fi
}

# Not if llhttp came after the build folder.
has_http() { grep -q '^build examples/http:' "$BUILD/build.ninja"; }

compile() {
    ninja -C "$BUILD" -n "$@" 2>/dev/null | grep -q 'no work to do' && return
    say "compiling in $BUILD"
    # On a terminal ninja shows how far it is, elsewhere only what fails.
    if [ -t 2 ]; then quiet=; else quiet=--quiet; fi
    ninja -C "$BUILD" $quiet "$@" >&2 || die "could not compile"
}

setup() {
    asked=${CXX:-}${MESON_ARGS:-}
    install_missing "$@"
    configure "$@"
    shift
    compile "$@"
}
