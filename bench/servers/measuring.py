"""What the comparisons of servers share: a server pinned to its core, load on another, what the
server's processes cost meanwhile, and rounds in turns, repeated if they were disturbed.
"""

import datetime
import glob
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import time

SERVER_CORE, LOAD_CORE = 0, 1
TRIES = 4  # of a round that was disturbed
REPEATED_MAX = 40  # in all: on a machine that is always busy, repeating does not help
STOLEN_MAX, WAITED_MAX = 2.0, 4.0  # per cent


def result_of(command):
    """The RESULT line of a program, which must end well."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout.split("RESULT ", 1)[1])


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


class Pinned:
    """A process on the servers' core, for as long as the `with` block."""

    last_port = 25099

    @staticmethod
    def next_port():
        """One of its own each time: those of closed connections linger."""
        Pinned.last_port = 25100 + (Pinned.last_port - 25099) % 400
        return Pinned.last_port

    def __init__(self, command):
        self.command = pinned(SERVER_CORE, command)

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Server(Pinned):
    """An echo server of ours, by hand or on the library: a program below bench/ in the build."""

    def __init__(self, build, command):
        self.address = f"127.0.0.1:{self.next_port()}"
        program, *options = command
        super().__init__([f"{build}/bench/{program}", self.address, *options])

    def load(self, build, *options, program="server_load"):
        """The result of the load against it."""
        return result_of(pinned(LOAD_CORE, [
            f"{build}/bench/{program}", self.address, "--pid", str(self.process.pid),
            *map(str, options)]))


def waited_percent(result):
    """Of the server, or of the load if it tells: each is to have its core for itself."""
    return max(result["waited_percent"], result.get("load_waited_percent", 0))


def disturbed(result):
    return result["stolen_percent"] > STOLEN_MAX or waited_percent(result) > WAITED_MAX


def undisturbed(measure, counts):
    """Measures until a round is undisturbed, or else keeps the least disturbed one."""
    results = []
    for _ in range(TRIES):
        results.append(measure())
        if not disturbed(results[-1]):
            return results[-1]
        if counts["repeated"] == counts.get("repeated_max", REPEATED_MAX):
            break
        counts["repeated"] += 1
    counts["disturbed"] += 1
    return min(results, key=lambda r: r["stolen_percent"] + waited_percent(r))


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


def in_turns(names, connections, arguments, counts, measure, tell=None):
    """The results of each name's rounds."""
    rounds = {name: [] for name in names}
    for number in range(arguments.rounds):
        shift = number % len(names)  # nobody is always the first
        for name in names[shift:] + names[:shift]:
            rounds[name].append(undisturbed(lambda name=name: measure(name), counts))
        (tell or progress)(f"{connections} connections, round {number + 1} of {arguments.rounds}")
    return rounds


def idle_memory(server, build, connections_max):
    """What the memory of a server, not yet started, grows by for each idle connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with server:
            # What the program needs in any case is there after the first one.
            server.load(build, "--connections", 1, "--requests", 1)
            return server.load(build, "--connections", min(connections_max, hard - 100), "--idle")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def processor_time(pid):
    """Nanoseconds that all threads ran, with child processes, and waited for a processor."""
    tasks = glob.glob(f"/proc/{pid}/task/*")
    if not tasks:
        sys.exit(f"process {pid} has ended")
    ran = waited = 0
    for task in tasks:
        with open(task + "/schedstat", encoding="ascii") as file:
            fields = file.read().split()
        ran += int(fields[0])
        waited += int(fields[1])
        with open(task + "/children", encoding="ascii") as file:
            children = file.read().split()
        for child in children:
            ran_too, waited_too = processor_time(child)
            ran += ran_too
            waited += waited_too
    return ran, waited


def wait_until_it_listens(port):
    listening = f"0100007F:{port:04X} 00000000:0000 0A"
    for _ in range(500):
        with open("/proc/net/tcp", encoding="ascii") as file:
            if listening in file.read():
                return
        time.sleep(0.01)
    sys.exit(f"nobody listens at port {port}")


def wrk(port, path, connections, seconds):
    """Whole seconds of wrk: the requests, and their latencies."""
    done = subprocess.run(
        pinned(LOAD_CORE, ["wrk", "-t", "2", "-c", str(connections), "-d", f"{seconds}s",
                           "--latency", f"http://127.0.0.1:{port}{path}"]),
        capture_output=True, text=True, check=True)
    for trouble in ("Socket errors", "Non-2xx"):
        if trouble in done.stdout:
            sys.exit(f"wrk: {done.stdout}")
    microseconds = {"us": 1, "ms": 1e3, "s": 1e6}
    latencies = {percent: float(value) * microseconds[unit] for percent, value, unit in
                 re.findall(r"^ +(\d+)% +([\d.]+)(us|ms|s)$", done.stdout, re.MULTILINE)}
    return {"requests": int(re.search(r"(\d+) requests in", done.stdout)[1]),
            "p50_us": latencies["50"], "p99_us": latencies["99"]}


def costs_under(load, server):
    """What a Pinned costs a request of those that load() makes and tells of."""
    pid = server.process.pid
    stolen, ticks = host_steal()
    ran, waited = processor_time(pid)
    began = time.monotonic()
    result = load()
    took = (time.monotonic() - began) * 1e9
    ran_now, waited_now = processor_time(pid)
    stolen_now, ticks_now = host_steal()
    return {**result, "per_second": result["requests"] / took * 1e9,
            "cpu_ns": (ran_now - ran) / result["requests"],
            "busy_percent": (ran_now - ran) / took * 100,
            "stolen_percent": (stolen_now - stolen) / max(ticks_now - ticks, 1) * 100,
            "waited_percent": (waited_now - waited) / took * 100}


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
