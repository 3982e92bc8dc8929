# What Debian calls the peers, and what loads them. Sourced, as by bench/run.sh.
# shellcheck shell=sh disable=SC2034 # for whom sources it
peers_packages='libasio-dev libuv1-dev libevent-dev golang-go python3 python3-uvloop nginx-light
redis-server wrk'
