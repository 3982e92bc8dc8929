"""Runs the http example and nginx in turns, and compares them; see ../http.sh.

As in rounds.py, a round runs every server once, and what is compared is processor time a request:
here that of the server's process with all its threads, by what wrk counts as requests.
"""

import argparse
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from rounds import (LOAD_CORE, SERVER_CORE, conditions, host_steal, pinned, progress, ratios,
                    summary, undisturbed)

CONNECTIONS = 64
WANTED = {"text": 0.8, "file": 1.0}
TEXT = "Hello, world!\\n"

# Comparable with ours: one process, no log, connections that stay. What nginx would send besides
# is left on, as it is what it costs.
NGINX = """
daemon off;
worker_processes 1;
pid {work}/pid;
error_log {work}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    default_type text/plain;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = / {{ return 200 "{text}"; }}
        location / {{ root {files}; }}
    }}
}}
"""


class Server:
    """A server process, pinned to its core, for as long as the `with` block."""

    next_port = 25600

    def __init__(self, what, work, command, pid_of):
        self.what, self.work, self.pid_of = what, work, pid_of
        # A port of its own each time: those of closed connections linger.
        Server.next_port = 25600 + (Server.next_port - 25599) % 400
        self.port = Server.next_port
        self.command = pinned(SERVER_CORE, command(self))

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        self.pid = self.pid_of(self.process.pid)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def ours(build):
    def command(server):
        files = [server.work + "/files"] if server.what == "file" else []
        return [f"{build}/examples/http", f"127.0.0.1:{server.port}", *files]
    return command, lambda pid: pid


def nginx_command(server):
    with open(server.work + "/nginx.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(work=server.work, port=server.port, text=TEXT,
                                files=server.work + "/files"))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return [program, "-e", server.work + "/error.log", "-c", server.work + "/nginx.conf"]


def only_child(pid):
    """The worker of nginx, which serves."""
    for _ in range(200):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = file.read().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    sys.exit("nginx has not started")


def processor_time(pid):
    """Nanoseconds that all threads ran, and that they waited for a processor."""
    ran = waited = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path, encoding="ascii") as file:
            fields = file.read().split()
        ran += int(fields[0])
        waited += int(fields[1])
    return ran, waited


def wrk(server, seconds):
    path = "/" if server.what == "text" else "/file.txt"
    done = subprocess.run(
        pinned(LOAD_CORE, ["wrk", "-t", "2", "-c", str(CONNECTIONS), "-d", f"{seconds}s",
                           "--latency", f"http://127.0.0.1:{server.port}{path}"]),
        capture_output=True, text=True, check=True)
    for trouble in ("Socket errors", "Non-2xx"):
        if trouble in done.stdout:
            sys.exit(f"wrk: {done.stdout}")
    return int(re.search(r"(\d+) requests in", done.stdout)[1])


def wait_until_it_listens(port):
    for _ in range(200):
        listening = f"0100007F:{port:04X} 00000000:0000 0A"
        with open("/proc/net/tcp", encoding="ascii") as file:
            if listening in file.read():
                return
        time.sleep(0.01)
    sys.exit(f"nobody listens at port {port}")


def measure(what, work, command, pid_of, seconds):
    with Server(what, work, command, pid_of) as server:
        wait_until_it_listens(server.port)
        wrk(server, 0.2 if seconds < 1 else 1)  # memory, caches, and the connections of before
        stolen, ticks = host_steal()
        ran, waited = processor_time(server.pid)
        began = time.monotonic()
        requests = wrk(server, seconds)
        took = (time.monotonic() - began) * 1e9
        ran_now, waited_now = processor_time(server.pid)
        stolen_now, ticks_now = host_steal()
    return {"requests": requests, "per_second": requests / took * 1e9,
            "cpu_ns": (ran_now - ran) / requests,
            "busy_percent": (ran_now - ran) / took * 100,
            "stolen_percent": (stolen_now - stolen) / max(ticks_now - ticks, 1) * 100,
            "waited_percent": (waited_now - waited) / took * 100}


def compare(what, arguments, work, counts):
    servers = {"ours": ours(arguments.build)}
    if shutil.which("nginx") or os.access("/usr/sbin/nginx", os.X_OK):
        servers["nginx"] = (nginx_command, only_child)
    rounds = {name: [] for name in servers}
    for number in range(arguments.rounds):
        names = list(servers)
        if number % 2:
            names.reverse()
        for name in names:
            rounds[name].append(undisturbed(
                lambda name=name: measure(what, work, *servers[name], arguments.seconds), counts))
        progress(f"{what}, round {number + 1} of {arguments.rounds}")
    results = {name: {"per_second": summary(of, "per_second", max),
                      "cpu_ns": summary(of, "cpu_ns", min),
                      "busy_percent": summary(of, "busy_percent", max),
                      "rounds": of} for name, of in rounds.items()}
    outcome = {"servers": results}
    if "nginx" in results:
        outcome["ours_to_nginx"] = ratios(results, "ours", "nginx")
    return outcome


def show(what, outcome):
    title = {"text": "a text of 14 B", "file": "a file of 4 KiB"}[what]
    print(f"\n{title}, {CONNECTIONS} connections: server on core {SERVER_CORE}, wrk with 2 threads "
          f"on core {LOAD_CORE}")
    print(f"{'':12}{'requests/s':>22}{'CPU us a request':>20}{'busy':>7}")
    print(f"{'':12}{'best':>11}{'median':>11}{'best':>10}{'median':>10}")
    for name, result in outcome["servers"].items():
        rate, cpu = result["per_second"], result["cpu_ns"]
        print(f"{name:12}{rate['best']:11.0f}{rate['median']:11.0f}{cpu['best'] / 1000:10.2f}"
              f"{cpu['median'] / 1000:10.2f}{result['busy_percent']['median']:6.0f}%")
    if ratio := outcome.get("ours_to_nginx"):
        print(f"ours / nginx: {ratio['best']:.3f} (best), {ratio['median']:.3f} (median); at most "
              f"{WANTED[what]} is wanted")


def main():
    parser = argparse.ArgumentParser(prog="http.sh", description="Compares web servers.")
    parser.add_argument("what", nargs="*", help="text, file; default: both")
    parser.add_argument("--build", default="build", help="build folder")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1, help="of a round, after a warm-up")
    arguments = parser.parse_args()
    what = arguments.what or list(WANTED)
    if unknown := set(what) - set(WANTED):
        parser.error(f"unknown: {', '.join(unknown)}")

    report = {"conditions": conditions(arguments.build)}
    counts = {"repeated": 0, "disturbed": 0}
    print(", ".join(f"{name} {value}" for name, value in report["conditions"].items()))
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)  # nginx's worker is nobody
        os.mkdir(work + "/files")
        with open(work + "/files/file.txt", "wb") as file:
            file.write(b"x" * 4095 + b"\n")
        for one in what:
            report[one] = compare(one, arguments, work, counts)
            progress("")
            show(one, report[one])
            sys.stdout.flush()
    report["rounds"] = counts
    if counts["repeated"]:
        print(f"\n{counts['repeated']} rounds were disturbed and repeated; "
              f"{counts['disturbed']} stayed disturbed")
    os.makedirs("build", exist_ok=True)
    with open("build/http.json", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
