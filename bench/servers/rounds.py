"""Runs the servers of this folder in turns and compares them; see ../servers.sh.

A round runs every server once, so that a slow minute of the machine hits all of them. What is
compared is processor time a request or a byte: the best round of each (what the program costs when
nothing disturbs it) and the median.
"""

import argparse
import json
import os
import shutil
import statistics
import sys

from measuring import (LOAD_CORE, SERVER_CORE, Pinned, Server, conditions, host_steal, idle_memory,
                       in_turns, pinned, progress, ratios, result_of, summary, undisturbed)
from measuring import first_match  # noqa: F401 # for reports on what is measured here

PARTS = ["tcp", "inside", "tls", "udp", "proxy", "zero-copy", "sendfile", "unix", "memory"]

SERVERS = {
    "ours": ["server_echo"],
    "ours, receive()": ["server_echo", "--receive"],
    "ours, recorded": ["server_echo", "--record"],
    "raw io_uring, multishot": ["server_raw_uring"],
    "raw io_uring, single": ["server_raw_uring", "--single"],
    "ours, epoll": ["server_echo", "--epoll"],
    "raw epoll": ["server_raw_epoll"],
}
INSIDE = {  # another loop
    "ours": ["server_echo"],
    "ours, inside epoll": ["server_echo", "--inside"],
    "ours, inside Asio": ["server_echo_asio", "--inside"],
}
TLS_SERVERS = {
    "ours": ["server_tls_echo"],
    "raw epoll": ["server_raw_tls_epoll"],
}
UDP_SERVERS = {
    "ours": ["server_udp_echo"],
    "raw recvmmsg": ["server_raw_udp"],
}
PROXIES = {  # {build}, and where it listens and passes on to
    "ours": ["{build}/examples/proxy", "127.0.0.1:{at}", "127.0.0.1:{to}"],
    "socat": ["socat", "TCP-LISTEN:{at},fork,reuseaddr", "TCP:127.0.0.1:{to}"],
    "socat -b 262144": ["socat", "-b", "262144", "TCP-LISTEN:{at},fork,reuseaddr",
                        "TCP:127.0.0.1:{to}"],
}
PAIRS = {
    "ours": ["server_unix_pairs"],
    "ours, receive()": ["server_unix_pairs", "--receive"],
    "raw io_uring": ["server_raw_unix_pairs"],
    "raw io_uring, try first": ["server_raw_unix_pairs", "--try-first"],
}


class Proxy(Pinned):
    """A proxy, and whom it passes on to: the load itself."""

    def __init__(self, build, command):
        self.at, self.to = self.next_port(), self.next_port()
        super().__init__([word.format(build=build, at=self.at, to=self.to) for word in command])

    def load(self, build, *options):
        return result_of(pinned(LOAD_CORE, [
            f"{build}/bench/server_load_stream", f"127.0.0.1:{self.at}", f"127.0.0.1:{self.to}",
            "--pid", str(self.process.pid), *map(str, options)]))


def measured_rounds(servers, connections, arguments, counts, *options, program="server_load"):
    """The summary of each server's rounds."""
    def measure(name):
        with Server(arguments.build, servers[name]) as server:
            return server.load(arguments.build, "--connections", connections, "--bytes", 64,
                               "--seconds", arguments.seconds, *options, program=program)

    rounds = in_turns(list(servers), connections, arguments, counts, measure)
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
            "epoll_to_raw_epoll": ratios(results, "ours, epoll", "raw epoll"),
            "recorded_to_ours": ratios(results, "ours, recorded", "ours"),
        }
    return outcome


def inside(arguments, counts):
    servers = {name: command for name, command in INSIDE.items()
               if os.path.exists(f"{arguments.build}/bench/{command[0]}")}
    outcome = {}
    for connections in [1, *arguments.connections]:
        results = measured_rounds(servers, connections, arguments, counts)
        outcome[str(connections)] = {
            "servers": results,
            "inside_to_own": {name: ratios(results, name, "ours")
                              for name in servers if name != "ours"},
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


def udp(arguments, counts):
    outcome = {}
    for connections in arguments.udp_sockets:
        results = measured_rounds(UDP_SERVERS, connections, arguments, counts,
                                  program="server_load_udp")
        for result in results.values():
            result["lost"] = sum(r["lost"] for r in result["rounds"])
            result["late"] = sum(r["late"] for r in result["rounds"])
        outcome[str(connections)] = {"servers": results,
                                     "raw_to_ours": ratios(results, "raw recvmmsg", "ours")}
    return outcome


def proxy(arguments, counts):
    if not os.path.exists(f"{arguments.build}/examples/proxy"):
        return {}  # built without
    proxies = {name: command for name, command in PROXIES.items()
               if name == "ours" or shutil.which(command[0])}
    outcome = {}
    for connections in arguments.streams:
        def measure(name, connections=connections):
            with Proxy(arguments.build, proxies[name]) as server:
                return server.load(arguments.build, "--connections", connections, "--seconds",
                                   arguments.seconds)

        rounds = in_turns(list(proxies), connections, arguments, counts, measure)
        outcome[str(connections)] = {name: {
            "gib_per_second": summary(of, "gib_per_second", max),
            "cpu_ms": summary(of, "cpu_ms", min),
            "busy_percent": summary(of, "busy_percent", max),
            "rounds": of,
        } for name, of in rounds.items()}
    return outcome


def costs(program, arguments, counts):
    """By size and way of sending, what a byte costs."""
    rounds = []
    for number in range(arguments.rounds):
        rounds.append(undisturbed(lambda: result_of(pinned(
            SERVER_CORE, [f"{arguments.build}/bench/{program}"])), counts))
        progress(f"{program}, round {number + 1} of {arguments.rounds}")
    outcome = {}
    for rows in zip(*(r["rows"] for r in rounds)):
        by_way = outcome.setdefault(str(rows[0]["bytes"]), {})
        both = [{"both_ps": row["cpu_ps"] + row["sink_ps"]} for row in rows]
        by_way[rows[0]["way"]] = {"cpu_ps": summary(rows, "cpu_ps", min),
                                  "both_ps": summary(both, "both_ps", min)}
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
    progress(f"{arguments.idle} idle connections")
    server = Server(arguments.build, SERVERS["ours, receive()"])
    return idle_memory(server, arguments.build, arguments.idle)


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
        print(f"ours, epoll / raw epoll: {percent(of['epoll_to_raw_epoll'])}"
              "; at most 1.05 is wanted")
        print(f"recorded / ours: {percent(of['recorded_to_ours'])}; at most 1.15 is wanted")


def print_inside(outcome):
    for connections, of in outcome.items():
        print_servers("TCP, kernels in other loops", connections, of["servers"])
        for name, ratio in of["inside_to_own"].items():
            print(f"{name} / in its own: {percent(ratio)}; at most 1.3 is wanted")


def print_tls(outcome):
    for connections, of in outcome.items():
        print_servers("TLS", connections, of["servers"])
        print(f"ours / raw epoll: {percent(of['ours_to_raw_epoll'])}; at most 1.1 is wanted")


def print_udp(outcome):
    for connections, of in outcome.items():
        print_servers("UDP", connections, of["servers"])
        for name, result in of["servers"].items():
            if result["lost"]:
                print(f"{name}: {result['lost']} were lost and sent again, "
                      f"{result['late']} came late")
        wanted = "" if connections == "1" else "; at least 0.95 is wanted"
        print(f"ours / raw, requests a CPU second: {percent(of['raw_to_ours'])}{wanted}")


def print_proxy(outcome):
    for connections, proxies in outcome.items():
        print(f"\nproxy, {connections} connections that stream in pieces of 256 KiB: proxy on "
              f"core {SERVER_CORE}, source and sink on core {LOAD_CORE}")
        print(f"{'':26}{'GiB/s':>20}{'CPU ms a GiB':>20}{'busy':>6}")
        print(f"{'':26}{'best':>10}{'median':>10}{'best':>10}{'median':>10}")
        ours = proxies["ours"]
        for name, result in proxies.items():
            rate, cpu = result["gib_per_second"], result["cpu_ms"]
            print(f"{name:26}{rate['best']:10.2f}{rate['median']:10.2f}{cpu['best']:10.0f}"
                  f"{cpu['median']:10.0f}{result['busy_percent']['median']:5.0f}%")
        for name, result in proxies.items():
            if name == "ours":
                continue
            faster, cheaper = ({kind: of[key][kind] / by[key][kind] for kind in ("best", "median")}
                               for of, by, key in ((ours, result, "gib_per_second"),
                                                   (result, ours, "cpu_ms")))
            wanted = "; at least 2 is wanted" if name == "socat" else ""
            print(f"ours / {name}: {percent(faster)} in throughput{wanted}; "
                  f"{percent(cheaper)} times cheaper")
        if len(proxies) == 1:
            print("socat is not installed: nothing to compare with")


def print_costs(what, outcome):
    ways = list(next(iter(outcome.values())))
    # Which of the two does the work of TCP is chance: the sum is steadier than either.
    for key, whose in (("cpu_ps", "the sender"), ("both_ps", "sender and sink together")):
        print(f"\n{what} over loopback TCP, sender on core {SERVER_CORE}, sink on core "
              f"{LOAD_CORE}: CPU ps a byte of {whose}, best and median")
        print(f"{'':10}" + "".join(f"{way:>21}" for way in ways))
        for size, of in outcome.items():
            kib = f"{int(size) // 1024} KiB"
            print(f"{kib:>10}" + "".join(
                f"{of[way][key]['best']:14.0f}{of[way][key]['median']:7.0f}" for way in ways))


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
    parser = argparse.ArgumentParser(prog="servers.sh", description="Compares servers.")
    parser.add_argument("what", nargs="*", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--build", default="build", help="build folder")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1, help="of a round")
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--udp-sockets", type=int, nargs="+", default=[1, 64], help="of the load")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16], help="by the proxy")
    parser.add_argument("--trips", type=int, default=4000, help="round trips of a socket pair")
    parser.add_argument("--idle", type=int, default=10000, help="idle connections")
    arguments = parser.parse_args()
    what = arguments.what or PARTS
    if unknown := set(what) - set(PARTS):
        parser.error(f"unknown: {', '.join(unknown)}")

    report = {"conditions": conditions(arguments.build)}
    counts = {"repeated": 0, "disturbed": 0}
    print(", ".join(f"{name} {value}" for name, value in report["conditions"].items()))
    for name, run, show in (("tcp", lambda: tcp(arguments, counts), print_tcp),
                            ("inside", lambda: inside(arguments, counts), print_inside),
                            ("tls", lambda: tls(arguments, counts), print_tls),
                            ("udp", lambda: udp(arguments, counts), print_udp),
                            ("proxy", lambda: proxy(arguments, counts), print_proxy),
                            ("zero-copy", lambda: costs("server_send_zc", arguments, counts),
                             lambda outcome: print_costs("zero-copy send", outcome)),
                            ("sendfile", lambda: costs("server_sendfile", arguments, counts),
                             lambda outcome: print_costs("a cached file", outcome)),
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
