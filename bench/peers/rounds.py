#!/usr/bin/env python3
"""Runs our echo and web servers and those of this folder in turns, one core each.

    python3 bench/peers/rounds.py [--build build] [--quick | --smoke] [--json FILE]
    python3 bench/peers/rounds.py --check       starts each, and looks at what it answers

As in ../servers/rounds.py, a round runs every server once, and disturbed rounds are repeated. What
is compared is the processor time a request, of all of a server's processes, and the memory that an
idle connection keeps. The load checks every byte that an echo server sends.
"""

import argparse
import functools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import types

sys.path.append(os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=wrong-import-position, wrong-import-order
from peers import ECHO, HTTP, REDIS, Peer, compile_all, compile_go, missing, present, versions

import measuring  # peers has told where it is
from measuring import costs_under, idle_memory, in_turns, wait_until_it_listens, wrk

BYTES = 64
HTTP_CONNECTIONS = 64
REDIS_REQUESTS = 100_000
KEPT = ["cpu_ns", "per_second", "p50_us", "p99_us", "busy_percent", "waited_percent",
        "stolen_percent"]  # of a round
REQUEST = b"GET / HTTP/1.1\r\nHost: peers\r\n\r\n"
TEXT = b"Hello, world!\n"


def echo(build, connections, arguments, counts, tell):
    servers = present(ECHO, build)

    def measure(name):
        with Peer(build, servers[name]) as server:
            return server.load(build, "--connections", connections, "--bytes", BYTES,
                               "--seconds", arguments.seconds)

    return in_turns(list(servers), connections, arguments, counts, measure,
                    lambda text: tell(f"echo, {text}"))


def http(build, arguments, counts, tell, work):
    servers = present(HTTP, build)

    def measure(name):
        with Peer(build, servers[name], work) as server:
            wait_until_it_listens(server.port)
            if arguments.warm_up:
                wrk(server.port, "/", HTTP_CONNECTIONS, arguments.warm_up)
            load = functools.partial(wrk, server.port, "/", HTTP_CONNECTIONS, arguments.wrk_seconds)
            return costs_under(load, server)

    return in_turns(list(servers), HTTP_CONNECTIONS, arguments, counts, measure,
                    lambda text: tell(f"http, {text}"))


def redis_benchmark(port, requests):
    """PING by many clients, and the latencies."""
    done = subprocess.run(
        measuring.pinned(measuring.LOAD_CORE, [
            "redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", str(HTTP_CONNECTIONS),
            "-n", str(requests), "-t", "ping_mbulk", "--csv"]),
        capture_output=True, text=True, check=True)
    names, values = (line.split(",") for line in done.stdout.replace('"', "").splitlines()[-2:])
    figures = dict(zip(names, values))
    return {"requests": requests, "p50_us": float(figures["p50_latency_ms"]) * 1e3,
            "p99_us": float(figures["p99_latency_ms"]) * 1e3}


def redis(build, arguments, counts, tell, work):
    """With the load that comes with it, which takes a number of requests."""
    servers = present(REDIS, build)

    def measure(name):
        with Peer(build, servers[name], work) as server:
            wait_until_it_listens(server.port)
            redis_benchmark(server.port, REDIS_REQUESTS // 10)
            return costs_under(lambda: redis_benchmark(server.port, REDIS_REQUESTS), server)

    return in_turns(list(servers), HTTP_CONNECTIONS, arguments, counts, measure,
                    lambda text: tell(f"redis, {text}"))


def idle_bytes(build, connections, tell):
    outcome = {}
    for name, words in present(ECHO, build).items():
        tell(f"{connections} idle connections: {name}")
        outcome[name] = idle_memory(Peer(build, words), build, connections)["bytes_each"]
    return outcome


def work_folder():
    """A temporary folder, to which nginx's worker, who is nobody, has access."""
    work = tempfile.TemporaryDirectory()
    os.chmod(work.name, 0o755)
    return work


def kept(rounds):
    return {name: {key: [r[key] for r in of] for key in KEPT} for name, of in rounds.items()}


# wrk runs for whole seconds. What warms it up in the short ones is the beginning of that one.
FULL = types.SimpleNamespace(rounds=9, seconds=1, wrk_seconds=1, warm_up=1, idle=10_000,
                             connections=[64, 512], repeated_max=measuring.REPEATED_MAX)
QUICK = types.SimpleNamespace(rounds=3, seconds=0.5, wrk_seconds=1, warm_up=0, idle=10_000,
                              connections=[64], repeated_max=15)
SMOKE = types.SimpleNamespace(rounds=1, seconds=0.2, wrk_seconds=1, warm_up=0, idle=1_000,
                              connections=[64], repeated_max=0)


def measure(build, quick=False, progress=measuring.progress, smoke=False):
    """Compiles and measures all that there is; progress(text) is told how far it is."""
    progress("compiling the peers")
    compile_all(build)
    arguments = SMOKE if smoke else QUICK if quick else FULL
    counts = {"repeated": 0, "disturbed": 0, "repeated_max": arguments.repeated_max}
    outcome = {"echo": {}, "http": {}, "redis": {}, "idle": arguments.idle,
               "idle_bytes": idle_bytes(build, arguments.idle, progress),
               "versions": versions(build), "missing": missing(build), "rounds": counts}
    for connections in arguments.connections:
        rounds = echo(build, connections, arguments, counts, progress)
        outcome["echo"][str(connections)] = kept(rounds)
    if shutil.which("wrk"):
        with work_folder() as work:
            rounds = http(build, arguments, counts, progress, work)
            outcome["http"][str(HTTP_CONNECTIONS)] = kept(rounds)
    with work_folder() as work:
        if rounds := redis(build, arguments, counts, progress, work):
            outcome["redis"][str(HTTP_CONNECTIONS)] = kept(rounds)
    return outcome


# --- the check --------------------------------------------------------------------------------

def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def check_echo(connection):
    """A message larger than any buffer comes back, and its end."""
    message = os.urandom(4 << 20)
    sender = threading.Thread(target=lambda: (connection.sendall(message),
                                              connection.shutdown(socket.SHUT_WR)))
    sender.start()
    came = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    sender.join()
    if came != message:
        raise ValueError(f"{len(came)} bytes came back, not the {len(message)} that were sent")


def check_http(connection):
    """Requests are answered one by one, also if one comes in parts or several come at once."""
    for part in (REQUEST[:-3], REQUEST[-3:-1], REQUEST[-1:] + REQUEST * 3):
        connection.sendall(part)
    stream = connection.makefile("rb")
    for _ in range(4):
        status = stream.readline()
        fields = {}
        while (line := stream.readline().strip()):
            name, value = line.split(b":", 1)
            fields[name.lower()] = value.strip()
        text = stream.read(int(fields.get(b"content-length", 0)))
        if not status.startswith(b"HTTP/1.1 200 ") or text != TEXT:
            raise ValueError(f"the answer is {status!r} with {text!r}")
        if not fields[b"content-type"].startswith(b"text/plain"):
            raise ValueError(f"the answer is {fields[b'content-type']!r}")


def check_redis(connection):
    connection.sendall(b"PING\r\n" * 2)
    answers = connection.makefile("rb").read(14)
    if answers != b"+PONG\r\n" * 2:
        raise ValueError(f"the answers are {answers!r}")


def check(build):
    """The number of servers that do not answer as they must, or do not end."""
    compile_go(build)
    failures = 0
    with work_folder() as work:
        for what, servers, look in (("echo", ECHO, check_echo), ("http", HTTP, check_http),
                                    ("redis", REDIS, check_redis)):
            for name, words in present(servers, build).items():
                try:
                    with Peer(build, words, work, free_port()) as server:
                        wait_until_it_listens(server.port)
                        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
                            look(connection)
                    print(f"{what}, {name}: as it must")
                except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
                    print(f"{what}, {name}: {error}")
                    failures += 1
    for name, package in missing(build).items():
        print(f"{name} is not here ({package})")
    return failures


# --- the tables -------------------------------------------------------------------------------

def print_table(title, servers):
    print(f"\n{title}: server on core {measuring.SERVER_CORE}, load on core {measuring.LOAD_CORE}")
    print(f"{'':22}{'CPU ns a request':>20}{'to ours':>9}{'requests/s':>12}{'p50 us':>9}"
          f"{'p99 us':>9}")
    print(f"{'':22}{'best':>10}{'median':>10}{'median':>9}{'median':>12}{'median':>9}{'median':>9}")
    median = {name: {key: statistics.median(of[key]) for key in KEPT}
              for name, of in servers.items()}
    ours = median.get("ours", {}).get("cpu_ns")
    for name, of in sorted(median.items(), key=lambda item: item[1]["cpu_ns"]):
        ratio = f"{of['cpu_ns'] / ours:.3f}" if ours else ""
        print(f"{name:22}{min(servers[name]['cpu_ns']):10.0f}{of['cpu_ns']:10.0f}{ratio:>9}"
              f"{of['per_second']:12.0f}{of['p50_us']:9.0f}{of['p99_us']:9.0f}")


def print_all(outcome):
    print(", ".join(f"{name} {version}" for name, version in outcome["versions"].items()))
    for connections, servers in outcome["echo"].items():
        print_table(f"echo, {connections} connections, {BYTES} B", servers)
    for connections, servers in outcome["http"].items():
        print_table(f"http, {connections} connections", servers)
    for connections, servers in outcome["redis"].items():
        print_table(f"redis, PING, {connections} connections", servers)
    print(f"\nmemory of an idle connection ({outcome['idle']} of them), in the server's process")
    for name, each in sorted(outcome["idle_bytes"].items(), key=lambda item: item[1]):
        print(f"{name:22}{each:10.0f} B")
    if outcome["missing"]:
        print("\nnot here: " + ", ".join(f"{name} ({package})"
                                         for name, package in outcome["missing"].items()))
    counts = outcome["rounds"]
    if counts["repeated"]:
        print(f"\n{counts['repeated']} rounds were disturbed and repeated; "
              f"{counts['disturbed']} stayed disturbed")


def main():
    parser = argparse.ArgumentParser(description="Compares servers on what else there is.")
    parser.add_argument("--build", default="build", help="build folder")
    parser.add_argument("--quick", action="store_true", help="three short rounds, 64 connections")
    parser.add_argument("--smoke", action="store_true", help="one round: whether all of it runs")
    parser.add_argument("--json", help="a file for the figures of each round")
    parser.add_argument("--check", action="store_true", help="only whether each server works")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(1 if check(arguments.build) else 0)
    outcome = measure(arguments.build, arguments.quick, smoke=arguments.smoke)
    measuring.progress("")
    print_all(outcome)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(outcome, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
