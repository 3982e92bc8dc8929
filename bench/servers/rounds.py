"""Runs the servers of this folder in turns and compares them; see ../servers.sh.

A round runs every server once, so that a slow minute of the machine hits all of them. What is
compared is processor time a request: the best round of each (what the program costs when nothing
disturbs it) and the median.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys

SERVER_CORE, LOAD_CORE = 0, 1
TRIES = 4  # of a round that was disturbed
REPEATED_MAX = 40  # in all: on a machine that is always busy, repeating does not help
STOLEN_MAX, WAITED_MAX = 2.0, 4.0  # per cent

SERVERS = {
    "ours": ["server_echo"],
    "ours, receive()": ["server_echo", "--receive"],
    "raw io_uring, multishot": ["server_raw_uring"],
    "raw io_uring, single": ["server_raw_uring", "--single"],
    "raw epoll": ["server_raw_epoll"],
}
TLS_SERVERS = {
    "ours": ["server_tls_echo"],
    "raw epoll": ["server_raw_tls_epoll"],
}
PAIRS = {
    "ours": ["server_unix_pairs"],
    "ours, receive()": ["server_unix_pairs", "--receive"],
    "raw io_uring": ["server_raw_unix_pairs"],
}


def result_of(command):
    """The RESULT line of a program, which must end well."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout.split("RESULT ", 1)[1])


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


class Server:
    """A server process, pinned to its core, for as long as the `with` block."""

    next_port = 25100

    def __init__(self, build, command):
        # A port of its own each time: those of closed connections linger.
        Server.next_port = 25100 + (Server.next_port - 25099) % 400
        self.address = f"127.0.0.1:{Server.next_port}"
        program, *options = command
        self.command = pinned(SERVER_CORE, [f"{build}/bench/{program}", self.address, *options])

    def __enter__(self):
        self.process = subprocess.Popen(self.command)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    def load(self, build, *options):
        """Runs the load against it."""
        return result_of(pinned(LOAD_CORE, [
            f"{build}/bench/server_load", self.address, "--pid", str(self.process.pid),
            *map(str, options)]))


def disturbed(result):
    return result["stolen_percent"] > STOLEN_MAX or result["waited_percent"] > WAITED_MAX


def undisturbed(measure, counts):
    """Measures until a round is undisturbed, or else keeps the least disturbed one."""
    results = []
    for _ in range(TRIES):
        results.append(measure())
        if not disturbed(results[-1]):
            return results[-1]
        if counts["repeated"] == REPEATED_MAX:
            break
        counts["repeated"] += 1
    counts["disturbed"] += 1
    return min(results, key=lambda r: r["stolen_percent"] + r["waited_percent"])


def host_steal():
    """Ticks that the host took, and all ticks, of all processors."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:]]
    return ticks[7], sum(ticks[:8])


def summary(rounds, key, best):
    values = [r[key] for r in rounds]
    return {"best": best(values), "median": statistics.median(values)}


def ratios(results, ours, floor):
    return {kind: results[ours]["cpu_ns"][kind] / results[floor]["cpu_ns"][kind]
            for kind in ("best", "median")}


def measured_rounds(servers, connections, arguments, counts, *options):
    """The summary of each server's rounds."""
    rounds = {name: [] for name in servers}
    for number in range(arguments.rounds):
        names = list(servers)
        shift = number % len(names)  # nobody is always the first
        for name in names[shift:] + names[:shift]:
            def measure(name=name):
                with Server(arguments.build, servers[name]) as server:
                    return server.load(arguments.build, "--connections", connections,
                                       "--bytes", 64, "--seconds", arguments.seconds, *options)
            rounds[name].append(undisturbed(measure, counts))
        progress(f"{connections} connections, round {number + 1} of {arguments.rounds}")
    return {name: {
        "per_second": summary(of, "per_second", max),
        "cpu_ns": summary(of, "cpu_ns", min),
        "p50_us": summary(of, "p50_us", min),
        "p99_us": summary(of, "p99_us", min),
        "busy_percent": summary(of, "busy_percent", max),
        "rounds": of,
    } for name, of in rounds.items()}


def tcp(arguments, counts):
    outcome = {}
    for connections in arguments.connections:
        results = measured_rounds(SERVERS, connections, arguments, counts)
        raw = min((name for name in SERVERS if "io_uring" in name),
                  key=lambda name: results[name]["cpu_ns"]["median"])
        outcome[str(connections)] = {
            "servers": results,
            "better_raw_uring": raw,
            "ours_to_raw_uring": ratios(results, "ours", raw),
            "receive_to_raw_uring": ratios(results, "ours, receive()", raw),
            "ours_to_raw_epoll": ratios(results, "ours", "raw epoll"),
        }
    return outcome


def tls(arguments, counts):
    if not all(os.path.exists(f"{arguments.build}/bench/{command[0]}")
               for command in TLS_SERVERS.values()):
        return {}  # built without
    outcome = {}
    for connections in arguments.connections:
        results = measured_rounds(TLS_SERVERS, connections, arguments, counts, "--tls")
        outcome[str(connections)] = {"servers": results,
                                     "ours_to_raw_epoll": ratios(results, "ours", "raw epoll")}
    return outcome


def unix_pairs(arguments, counts):
    rounds = {name: [] for name in PAIRS}
    for number in range(arguments.rounds):
        names = list(PAIRS) if number % 2 else list(reversed(PAIRS))
        for name in names:
            program, *options = PAIRS[name]

            def measure(program=program, options=options):
                stolen, ticks = host_steal()
                result = result_of(pinned(SERVER_CORE, [
                    f"{arguments.build}/bench/{program}", "64", str(arguments.trips), *options]))
                stolen_now, ticks_now = host_steal()
                share = (stolen_now - stolen) / max(ticks_now - ticks, 1) * 100
                return {**result, "stolen_percent": share, "waited_percent": 0}
            rounds[name].append(undisturbed(measure, counts))
        progress(f"socket pairs, round {number + 1} of {arguments.rounds}")
    results = {name: {
        "cpu_ns": summary(of, "cpu_ns", min),
        "operations": of[0]["operations"],
        "system_calls": of[0]["system_calls"],
        "rounds": of,
    } for name, of in rounds.items()}
    # Neighbours in time: what moves both falls out of a round's ratio.
    def to_raw(name):
        by_round = [ours["cpu_ns"] / raw["cpu_ns"]
                    for ours, raw in zip(rounds[name], rounds["raw io_uring"])]
        return {**ratios(results, name, "raw io_uring"),
                "median_of_rounds": statistics.median(by_round)}

    return {"programs": results, "ours_to_raw_uring": to_raw("ours"),
            "receive_to_raw_uring": to_raw("ours, receive()")}


def memory(arguments):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = min(arguments.idle, hard - 100)
    progress(f"{connections} idle connections")
    with Server(arguments.build, SERVERS["ours, receive()"]) as server:
        # What the program needs in any case is there after the first one.
        server.load(arguments.build, "--connections", 1, "--requests", 1)
        result = server.load(arguments.build, "--connections", connections, "--idle")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return result


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def first_match(path, pattern):
    try:
        with open(path, encoding="utf-8") as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return "unknown"
    return found.group(1) if found else "unknown"


def conditions(build):
    with open(f"{build}/compile_commands.json", encoding="utf-8") as file:
        words = next(entry["command"].split() for entry in json.load(file)
                     if entry["file"].endswith(".cpp"))
    program = next(word for word in words if "++" in word)  # it may stand behind ccache
    compiler = subprocess.run([program, "--version"], capture_output=True, text=True,
                              check=False).stdout.split("\n", maxsplit=1)[0]
    liburing = subprocess.run(["pkg-config", "--modversion", "liburing"], capture_output=True,
                              text=True, check=False).stdout.strip() or "unknown"
    return {
        "processor": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
        "processors": os.cpu_count(),
        "linux": platform.release(),
        "compiler": compiler,
        "liburing": liburing,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
    }


def percent(ratio):
    return f"{ratio['best']:.3f} (best), {ratio['median']:.3f} (median)"


def print_servers(what, connections, servers):
    print(f"\n{what}, {connections} connections, 64 B: server on core {SERVER_CORE}, "
          f"load on core {LOAD_CORE}")
    print(f"{'':26}{'requests/s':>22}{'CPU ns a request':>20}{'p50 us':>8}{'p99 us':>8}"
          f"{'busy':>6}")
    print(f"{'':26}{'best':>11}{'median':>11}{'best':>10}{'median':>10}")
    for name, result in servers.items():
        rate, cpu = result["per_second"], result["cpu_ns"]
        print(f"{name:26}{rate['best']:11.0f}{rate['median']:11.0f}{cpu['best']:10.0f}"
              f"{cpu['median']:10.0f}{result['p50_us']['median']:8.0f}"
              f"{result['p99_us']['median']:8.0f}{result['busy_percent']['median']:5.0f}%")


def print_tcp(outcome):
    for connections, of in outcome.items():
        print_servers("TCP", connections, of["servers"])
        print(f"ours / {of['better_raw_uring']}: {percent(of['ours_to_raw_uring'])}"
              "; at most 1.08 is wanted")
        print(f"receive() / {of['better_raw_uring']}: {percent(of['receive_to_raw_uring'])}"
              "; at most 1.05 is wanted")
        print(f"ours / raw epoll: {percent(of['ours_to_raw_epoll'])}; below 1 is wanted")


def print_tls(outcome):
    for connections, of in outcome.items():
        print_servers("TLS", connections, of["servers"])
        print(f"ours / raw epoll: {percent(of['ours_to_raw_epoll'])}; at most 1.1 is wanted")


def print_unix(outcome):
    print("\n64 AF_UNIX socket pairs in one process, 64 B: a request is two sends, two receives")
    print(f"{'':26}{'CPU ns a request':>20}{'operations':>12}{'system calls':>14}")
    print(f"{'':26}{'best':>10}{'median':>10}")
    for name, result in outcome["programs"].items():
        cpu = result["cpu_ns"]
        print(f"{name:26}{cpu['best']:10.0f}{cpu['median']:10.0f}{result['operations']:12.2f}"
              f"{result['system_calls']:14.4f}")
    for name, key, wanted in (("ours", "ours_to_raw_uring", 1.03),
                              ("receive()", "receive_to_raw_uring", 1.02)):
        ratio = outcome[key]
        print(f"{name} / raw io_uring: {percent(ratio)}, {ratio['median_of_rounds']:.3f} (median "
              f"of the rounds' ratios); at most {wanted} is wanted")


def print_memory(outcome):
    print(f"\n{outcome['connections']} idle connections to our server, in receive(): "
          f"{outcome['bytes_each']:.0f} B each; at most 700 is wanted")


def main():
    parser = argparse.ArgumentParser(prog="servers.sh", description="Compares echo servers.")
    parser.add_argument("what", nargs="*", help="tcp, tls, unix, memory; default: all")
    parser.add_argument("--build", default="build", help="build folder")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1, help="of a TCP or TLS round")
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--trips", type=int, default=4000, help="round trips of a socket pair")
    parser.add_argument("--idle", type=int, default=10000, help="idle connections")
    arguments = parser.parse_args()
    what = arguments.what or ["tcp", "tls", "unix", "memory"]
    if unknown := set(what) - {"tcp", "tls", "unix", "memory"}:
        parser.error(f"unknown: {', '.join(unknown)}")

    report = {"conditions": conditions(arguments.build)}
    counts = {"repeated": 0, "disturbed": 0}
    print(", ".join(f"{name} {value}" for name, value in report["conditions"].items()))
    for name, run, show in (("tcp", lambda: tcp(arguments, counts), print_tcp),
                            ("tls", lambda: tls(arguments, counts), print_tls),
                            ("unix", lambda: unix_pairs(arguments, counts), print_unix),
                            ("memory", lambda: memory(arguments), print_memory)):
        if name in what:
            report[name] = run()
            progress("")
            show(report[name])
            sys.stdout.flush()
    report["rounds"] = counts
    if counts["repeated"]:
        print(f"\n{counts['repeated']} rounds were disturbed and repeated; "
              f"{counts['disturbed']} stayed disturbed")
    os.makedirs("build", exist_ok=True)
    with open("build/servers.json", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
