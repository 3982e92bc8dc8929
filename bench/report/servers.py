"""Servers: those of the designs, those of ../servers beside raw C, and the peers of ../peers.

All by the functions of ../servers: the server on one core, its load on another, rounds
in turns, disturbed ones repeated.
"""

import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from types import SimpleNamespace

from cases import HTTP_KEY, echo_key
from designs import Failed, program_of, shown

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "servers"))

import measuring  # noqa: E402
import rounds  # noqa: E402

BESIDE_RAW = ["ours", "ours, receive()", "raw io_uring, multishot", "raw io_uring, single",
              "raw epoll"]
KEPT = ["cpu_ns", "per_second", "p50_us", "p99_us"]
COUNTED = ["system_calls", "allocations", "allocated_bytes"]
REQUESTS_COUNTED = 20_000
HTTP_CLIENTS = 64
PIPELINED_CLIENTS, PIPELINED_DEPTH = 64, 16


class DesignServer(measuring.Pinned):
    """A server program of a design. After the `with` block `result` is what it told."""

    def __init__(self, build, design, kind):
        self.port = self.next_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__([program_of(build, design), kind, f"port={self.port}"])

    def __enter__(self):
        self.log = tempfile.TemporaryFile()  # each client that resets its connection is told
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True)
        return self

    def __exit__(self, failure, *_):
        self.process.terminate()
        try:
            said, _ = self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise Failed(f"{shown(self.command)} does not end on SIGTERM") from None
        found = re.search(r"^RESULT (.*)$", said, re.MULTILINE)
        if not failure and (self.process.returncode != 0 or not found):
            self.log.seek(0)
            why = self.log.read()[-1000:].decode(errors="replace")
            raise Failed(f"{shown(self.command)} ended with {self.process.returncode}: {why}")
        self.log.close()
        self.result = json.loads(found[1]) if found else {}

    def load(self, build, *options):
        return measuring.result_of(measuring.pinned(measuring.LOAD_CORE, [
            f"{build}/bench/server_load", self.address, "--pid", str(self.process.pid),
            *map(str, options)]))


def files_max():
    """Thousands of connections need as many descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def samples(results):
    return {key: [result[key] for result in results]
            for key in KEPT + COUNTED if key in results[0]}


def arguments_of(build, effort):
    return SimpleNamespace(build=build, rounds=effort.server_rounds, seconds=effort.seconds,
                           trips=effort.trips)


def counted(requests, result):
    return {key: [result[key] / requests] for key in COUNTED}


# --- the designs' servers --------------------------------------------------------------------


def echo_in_designs(build, designs, size, connections, arguments, counts):
    options = ["--connections", connections, "--bytes", size]

    def measure(design):
        with DesignServer(build, design, "echo") as server:
            return server.load(build, *options, "--seconds", arguments.seconds)

    by_design = measuring.in_turns(list(designs), connections, arguments, counts, measure)
    outcome = {design: samples(results) for design, results in by_design.items()}
    requests = max(REQUESTS_COUNTED, 20 * connections)
    for design in designs:
        with DesignServer(build, design, "echo") as server:
            server.load(build, *options, "--requests", requests)
        outcome[design].update(counted(requests, server.result))
    commands = [f"taskset -c {measuring.SERVER_CORE} {shown([program_of(build, design)])} echo "
                "port=25000" for design in designs]
    commands.append(f"taskset -c {measuring.LOAD_CORE} {shown([build])}/bench/server_load "
                    f"127.0.0.1:25000 --connections {connections} --bytes {size} "
                    f"--seconds {arguments.seconds} --pid PID")
    title = f"echo {size:,} B, {connections:,} client{'' if connections == 1 else 's'}"
    return {"group": "servers", "title": title, "program": "echo", "commands": commands,
            "designs": outcome}


def http_round(build, design, seconds):
    """What a request costs; the counts are those of the warm-up, too."""
    with DesignServer(build, design, "http") as server:
        measuring.wait_until_it_listens(server.port)
        warm_up = measuring.wrk(server.port, "/", HTTP_CLIENTS, 1)["requests"]
        result = measuring.costs_under(
            lambda: measuring.wrk(server.port, "/", HTTP_CLIENTS, seconds), server)
    requests = warm_up + result["requests"]
    return {**result, **{key: server.result[key] / requests for key in COUNTED}}


def http_in_designs(build, designs, arguments, counts):
    seconds = max(int(arguments.seconds), 1)  # wrk counts whole ones

    def measure(design):
        return http_round(build, design, seconds)

    by_design = measuring.in_turns(list(designs), HTTP_CLIENTS, arguments, counts, measure)
    outcome = {design: samples(results) for design, results in by_design.items()}
    commands = [f"taskset -c {measuring.SERVER_CORE} {shown([program_of(build, design)])} http "
                "port=25000" for design in designs]
    commands.append(f"taskset -c {measuring.LOAD_CORE} wrk -t 2 -c {HTTP_CLIENTS} "
                    f"-d {seconds}s --latency http://127.0.0.1:25000/")
    return {"group": "servers", "title": "http, 64 clients", "program": "http",
            "commands": commands, "designs": outcome}


def in_designs(build, designs, effort, counts, progress):
    arguments, cases = arguments_of(build, effort), {}
    for size, connections in effort.echoes:
        progress(f"echo in the designs: {size} B, {connections} connections")
        cases[echo_key(size, connections)] = echo_in_designs(
            build, designs, size, connections, arguments, counts)
    progress("http in the designs")
    cases[HTTP_KEY] = http_in_designs(build, designs, arguments, counts)
    return cases


# --- beside raw C ----------------------------------------------------------------------------


def beside_raw(build, effort, counts, progress):
    arguments = arguments_of(build, effort)
    tcp = {}
    for connections in effort.connections:
        progress(f"echo beside raw C: {connections} connections")
        of = rounds.measured_rounds({name: rounds.SERVERS[name] for name in BESIDE_RAW},
                                    connections, arguments, counts)
        tcp[str(connections)] = {name: samples(result["rounds"]) for name, result in of.items()}
    progress("echo beside raw C, pipelined")
    pipelined = rounds.measured_rounds(
        {name: rounds.SERVERS[name] for name in BESIDE_RAW}, PIPELINED_CLIENTS, arguments, counts,
        "--depth", PIPELINED_DEPTH)
    progress("echo over socket pairs")
    pairs = rounds.unix_pairs(arguments, counts)["programs"]
    unix = {name: {"cpu_ns": [one["cpu_ns"] for one in result["rounds"]],
                   "system_calls": [result["system_calls"]]}
            for name, result in pairs.items()}
    wanted = " ".join(map(str, effort.connections))
    pipelined = {name: samples(result["rounds"]) for name, result in pipelined.items()}
    return {"tcp": tcp, "pipelined": pipelined, "unix": unix, "commands": [
        f"sh bench/servers.sh tcp unix --connections {wanted} --rounds {effort.server_rounds} "
        f"--seconds {effort.seconds} --trips {effort.trips}",
        f"taskset -c {measuring.LOAD_CORE} {shown([build])}/bench/server_load 127.0.0.1:25000 "
        f"--connections {PIPELINED_CLIENTS} --depth {PIPELINED_DEPTH} --pid PID"]}


# --- the peers -------------------------------------------------------------------------------


def peers_module():
    """bench/peers/rounds.py under a name of its own, or None where there is none."""
    folder = os.path.join(HERE, "..", "peers")
    path = os.path.join(folder, "rounds.py")
    if not os.path.exists(path):
        return None
    sys.path.append(folder)  # what stands beside it
    spec = importlib.util.spec_from_file_location("peers_rounds", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def beside_peers(build, effort, progress):
    module = peers_module()
    if module is None:
        return None
    outcome = module.measure(build, effort.name == "quick", progress, smoke=effort.name == "smoke")
    quick = "" if effort.name == "full" else f" --{effort.name}"
    outcome["commands"] = [
        f"python3 bench/peers/rounds.py --build {shown([os.path.abspath(build)])}{quick}"]
    return outcome


def commit():
    """Empty where there is no git, or what is built is no clone."""
    command = ["git", "-C", HERE, "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def conditions(build):
    of = measuring.conditions(build)
    of["commit"] = commit() or "unknown"
    of["system"] = measuring.first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)')
    of["memory"] = measuring.first_match("/proc/meminfo", r"^MemTotal:\s*(\d+) kB")
    if of["memory"].isdigit():
        of["memory"] = f"{int(of['memory']) / 1024 ** 2:.1f} GiB"
    return of
