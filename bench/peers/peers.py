"""The servers that rounds.py compares: which there are, which are here, and how each runs."""

import functools
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(os.path.dirname(HERE), "servers"))

# pylint: disable=wrong-import-position
import http_rounds
from measuring import Pinned, Server, conditions, first_match

# {bench} is a folder of the build, {at} the address. Ours lends buffers to those who receive, as
# the best of the others do: what it costs and what it keeps are those of one program. With a buffer
# in each client's coroutine, which servers.sh measures, it costs as much and keeps that, too.
ECHO = {
    "ours": ["{bench}/server_echo", "{at}", "--receive"],
    "raw io_uring": ["{bench}/server_raw_uring", "{at}"],
    "raw io_uring, single": ["{bench}/server_raw_uring", "{at}", "--single"],
    "raw epoll": ["{bench}/server_raw_epoll", "{at}"],
    "Asio": ["{bench}/peers/peer_asio_echo", "{at}"],
    "libuv": ["{bench}/peers/peer_libuv_echo", "{at}"],
    "libevent": ["{bench}/peers/peer_libevent_echo", "{at}"],
    "Go": ["env", "GOMAXPROCS=1", "{bench}/peers/go_echo", "{at}"],
    "asyncio": ["{python}", "{here}/asyncio_echo.py", "{at}"],
    "uvloop": ["{python}", "{here}/asyncio_echo.py", "{at}", "--uvloop"],
}
HTTP = {
    "ours": ["{bench}/../examples/http", "{at}"],
    "raw io_uring": ["{bench}/peers/peer_raw_http_uring", "{at}"],
    "raw epoll": ["{bench}/peers/peer_raw_http_epoll", "{at}"],
    "Asio": ["{bench}/peers/peer_asio_http", "{at}"],
    "libuv": ["{bench}/peers/peer_libuv_http", "{at}"],
    "libevent": ["{bench}/peers/peer_libevent_http", "{at}"],
    "Go": ["env", "GOMAXPROCS=1", "{bench}/peers/go_http", "{at}"],
    "asyncio": ["{python}", "{here}/asyncio_http.py", "{at}"],
    "uvloop": ["{python}", "{here}/asyncio_http.py", "{at}", "--uvloop"],
    "nginx": [],  # its command comes with a configuration
}
REDIS = {  # nothing of ours is beside it
    "redis-server": ["redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--save", "",
                     "--appendonly", "no", "--dir", "{work}"],
}
PACKAGES = {"Asio": "libasio-dev", "libuv": "libuv1-dev", "libevent": "libevent-dev",
            "Go": "golang-go", "asyncio": "python3", "uvloop": "python3-uvloop",
            "nginx": "nginx-light", "wrk": "wrk", "redis-server": "redis-server",
            "redis-benchmark": "redis-tools", "ours": "libllhttp-dev or node-llhttp"}


@functools.cache
def python():
    """One with uvloop, which a Python that is not the system's may lack; and whether it has it."""
    for program in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([program, "-c", "import uvloop"], capture_output=True).returncode == 0:
            return program, True
    return sys.executable, False


def places(build):
    return {"bench": os.path.abspath(f"{build}/bench"), "here": HERE, "python": python()[0]}


def is_there(name, words, build):
    if name == "nginx":
        return bool(http_rounds.nginx_program())
    if name == "uvloop":
        return python()[1]
    if name == "redis-server":
        return bool(shutil.which(name) and shutil.which("redis-benchmark"))
    return all(os.path.exists(word.format(**places(build)))
               for word in words if word.startswith(("{bench}", "{here}", "{python}")))


def present(servers, build):
    return {name: words for name, words in servers.items() if is_there(name, words, build)}


def missing(build):
    """By name, what Debian calls what is not there, or was not when the build was configured."""
    names = [name for servers in (ECHO, HTTP) for name, words in servers.items()
             if not is_there(name, words, build)]
    names += [program for program in ("wrk", "redis-server", "redis-benchmark")
              if not shutil.which(program)]
    return {name: f"Debian: {PACKAGES.get(name, 'liburing-dev')}" for name in names}


def compile_go(build):
    if not shutil.which("go"):
        return
    environment = {**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off",
                   "CGO_ENABLED": "0"}
    environment.setdefault("HOME", os.path.abspath(build))  # for its cache
    for name in ("echo", "http"):
        subprocess.run(["go", "build", "-o", f"{build}/bench/peers/go_{name}",
                        f"{HERE}/{name}.go"], env=environment, check=True)


def compile_all(build):
    """Whatever the build knows of."""
    known = subprocess.run(["ninja", "-C", build, "-t", "targets", "all"], check=True,
                           capture_output=True, text=True).stdout
    wanted = re.findall(r"^(bench/peers/peer_\w+|bench/server_(?:echo|load|raw_uring|raw_epoll)|"
                        r"examples/http): ", known, re.MULTILINE)
    subprocess.run(["ninja", "-C", build, "--quiet", *wanted], check=True)
    compile_go(build)


def told(*command):
    """What a program says of its version, wherever it says it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else None


def found(pattern, text):
    match = re.search(pattern, text or "")
    return match[1] if match else None


def versions(build):
    asio = first_match("/usr/include/asio/version.hpp", r"^#define ASIO_VERSION (\d+)")
    machine = conditions(build)
    program, has_uvloop = python()
    all_of_them = {
        "Linux": machine["linux"],
        "compiler": machine["compiler"],
        "liburing": machine["liburing"],
        "Asio": f"{int(asio) // 100000}.{int(asio) // 100 % 1000}.{int(asio) % 100}"
                if asio.isdigit() else None,
        "libuv": told("pkg-config", "--modversion", "libuv"),
        "libevent": told("pkg-config", "--modversion", "libevent"),
        "Go": found(r"go([\d.]+)", told("go", "version")),
        "Python": found(r"Python (\S+)", told(program, "--version")),
        "uvloop": told(program, "-c", "import uvloop; print(uvloop.__version__)")
                  if has_uvloop else None,
        "nginx": found(r"nginx/(\S+)", told(http_rounds.nginx_program() or "nginx", "-v")),
    }
    return {name: version for name, version in all_of_them.items() if version}


class Peer(Server):
    """A server of the tables above."""

    def __init__(self, build, words, work=None, port=None):
        self.port, self.work = port or self.next_port(), work
        self.address = f"127.0.0.1:{self.port}"
        names = {**places(build), "at": self.address, "port": self.port, "work": work}
        Pinned.__init__(self, [word.format(**names) for word in words] or http_rounds.nginx(self))
