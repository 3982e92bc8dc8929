#!/usr/bin/env python3
"""Records the echo, chat and http examples with foreign clients, and replays them without.

Arguments: the paths of echo, chat and http. What the programs print must be the same; a program
that was killed is replayed up to where its file ends, and another program is refused.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

from peers import DEADLINE_S, Server, check, receive

ECHO, CHAT, HTTP = sys.argv[1:4]


def recorded(program, file, use, how=signal.SIGINT):
    """Runs the program with clients; answers its exit code and what it printed."""
    os.environ["TRAPLINE_RECORD"] = file
    server = Server(program)
    del os.environ["TRAPLINE_RECORD"]
    use(server)
    code, out, errors = server.stop(how)
    check(not errors, f"{program} recorded: {errors}")
    return code, server.announced + out


def replayed(program, file, **variables):
    return subprocess.run([program, "127.0.0.1:0"], capture_output=True, text=True, check=False,
                          timeout=DEADLINE_S,
                          env={**os.environ, "TRAPLINE_REPLAY": file, **variables})


def same_again(program, file, use):
    code, out = recorded(program, file, use)
    again = replayed(program, file)
    check((again.returncode, again.stdout) == (code, out),
          f"{program}: {code} {out!r} was recorded, and {again.returncode} {again.stdout!r} "
          f"replayed: {again.stderr}")


def echo_clients(server):
    """Several clients at once, with messages of random sizes."""
    def client(seed):
        dice = random.Random(seed)
        with server.connect() as stream:
            for _ in range(30):
                message = dice.randbytes(dice.randrange(1, 20_000))
                stream.sendall(message)
                if receive(stream, len(message)) != message:
                    failures.append(f"client {seed}")
                    return

    failures = []
    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, failures)


def chat_clients(server):
    with server.connect() as first, server.connect() as second:
        for stream, name in ((first, b"ann"), (second, b"bob")):
            stream.sendall(name + b"\n")
        for stream in (first, second):
            stream.sendall(b"hello\n")
            stream.shutdown(socket.SHUT_WR)
        for stream in (first, second):
            receive(stream, 1 << 20)


def http_clients(server):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path, data in (("/", None), ("/hello/you", None), ("/nothing", None), ("/", b"x" * 5000)):
        try:
            with opener.open(f"http://{server.host}:{server.port}{path}", data) as answer:
                answer.read()
        except urllib.error.HTTPError as refusal:
            refusal.close()


with tempfile.TemporaryDirectory() as folder:
    same_again(ECHO, f"{folder}/echo", echo_clients)
    same_again(CHAT, f"{folder}/chat", chat_clients)
    same_again(HTTP, f"{folder}/http", http_clients)

    code, announced = recorded(ECHO, f"{folder}/killed", echo_clients, signal.SIGKILL)
    again = replayed(ECHO, f"{folder}/killed")
    check(code == -signal.SIGKILL and again.stdout == announced, f"{code} {again.stdout!r}")
    check("the recording ends here, after trap " in again.stderr, again.stderr)

    stopped = replayed(ECHO, f"{folder}/echo", TRAPLINE_REPLAY_UNTIL="100")
    check("the replay stops before trap 100: task " in stopped.stderr, stopped.stderr)
    other = replayed(CHAT, f"{folder}/echo")
    check(" is of another program: " in other.stderr and other.returncode == 1, other.stderr)
