"""Runs the http example and nginx in turns, and compares them; see ../http.sh.

As in rounds.py, a round runs every server once, and what is compared is processor time a request:
here that of the server's process with all its threads, by what wrk counts as requests.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile

import measuring
from measuring import (LOAD_CORE, SERVER_CORE, Pinned, conditions, costs_under, progress, ratios,
                       summary, undisturbed, wait_until_it_listens)
from measuring import processor_time  # noqa: F401 # for reports on what is measured here

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


class Server(Pinned):
    """A web server, by a function that knows its command."""

    def __init__(self, what, work, command):
        self.what, self.work = what, work
        self.port = self.next_port()
        super().__init__(command(self))


def ours(build):
    def command(server):
        files = [server.work + "/files"] if server.what == "file" else []
        return [f"{build}/examples/http", f"127.0.0.1:{server.port}", *files]
    return command


def nginx_program():
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def nginx(server):
    with open(server.work + "/nginx.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(work=server.work, port=server.port, text=TEXT,
                                files=server.work + "/files"))
    return [nginx_program(), "-e", server.work + "/error.log", "-c", server.work + "/nginx.conf"]


def loaded(server, seconds):
    return measuring.wrk(server.port, "/" if server.what == "text" else "/file.txt", CONNECTIONS,
                         seconds)


def wrk(server, seconds):
    """The number of requests."""
    return loaded(server, seconds)["requests"]


def measure(what, work, command, seconds):
    with Server(what, work, command) as server:
        wait_until_it_listens(server.port)
        wrk(server, 1)  # memory, caches, and the connections of before
        return costs_under(lambda: loaded(server, seconds), server)


def compare(what, arguments, work, counts):
    servers = {"ours": ours(arguments.build)}
    if nginx_program():
        servers["nginx"] = nginx
    rounds = {name: [] for name in servers}
    for number in range(arguments.rounds):
        names = list(servers)
        if number % 2:
            names.reverse()
        for name in names:
            rounds[name].append(undisturbed(
                lambda name=name: measure(what, work, servers[name], arguments.seconds), counts))
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
