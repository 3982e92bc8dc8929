#!/usr/bin/env python3
"""Talks to the echo example with Python's sockets. Argument: the example's path.

Many clients at once, a large payload, half a close, then SIGINT; and starts that must fail.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading

from peers import DEADLINE_S, Server, check, receive

ECHO = sys.argv[1]


def many_clients(server):
    """64 clients, each sends 50 messages of random size, all echoed byte for byte."""
    failures = []

    def client(seed):
        dice = random.Random(seed)
        try:
            with server.connect() as stream:
                for _ in range(50):
                    message = dice.randbytes(dice.randrange(1, 10_000))
                    stream.sendall(message)
                    if receive(stream, len(message)) != message:
                        failures.append(f"client {seed}: not what was sent")
                        return
        except OSError as failure:
            failures.append(f"client {seed}: {failure}")

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, failures)


def large_payload_and_half_close(server):
    """16 MiB there and back, then the end of the stream in one direction after the other."""
    payload = random.Random(1).randbytes(16 << 20)
    with server.connect() as stream:

        def send():
            stream.sendall(payload)
            stream.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = receive(stream, len(payload) + 1)
        sender.join()
    check(received == payload, f"{len(received)} of {len(payload)} bytes came back, or others")


def unfriendly_clients(server):
    """Resets, and ends without a word: the server goes on."""
    for _ in range(20):
        with server.connect() as stream:
            stream.sendall(b"x" * 1000)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.connect().close()
    with server.connect() as stream:
        stream.sendall(b"still there?")
        check(receive(stream, 12) == b"still there?", "no echo after unfriendly clients")


def refused(address, *expected):
    """The example ends with code 1 and one line on stderr that has all of `expected` in it."""
    ended = subprocess.run([ECHO, address], capture_output=True, text=True, timeout=DEADLINE_S)
    lines = ended.stderr.splitlines()
    check(ended.returncode == 1, f"echo {address}: exit code {ended.returncode}")
    check(len(lines) == 1, f"echo {address}: not one line of complaint: {ended.stderr!r}")
    for text in expected:
        check(text in lines[0], f"echo {address}: {text!r} is not in {lines[0]!r}")


def refused_to_nobody():
    """A privileged port, asked for by one who must not have it."""
    if os.geteuid() == 0:
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    else:
        prefix = []
    try:
        ended = subprocess.run(
            [*prefix, ECHO, "127.0.0.1:81"], capture_output=True, text=True, timeout=3
        )
    except (OSError, subprocess.TimeoutExpired):
        return print("no privileged port to be refused here")
    if ended.returncode in (126, 127):  # nobody may not even look at the program
        return print("the program cannot be run as nobody:", ended.stderr.strip())
    check(ended.returncode == 1, f"a privileged port: exit code {ended.returncode}")
    check(
        ended.stderr == "echo: bind to 127.0.0.1:81: Permission denied\n",
        f"a privileged port: {ended.stderr!r}",
    )


def main():
    server = Server(ECHO)
    many_clients(server)
    large_payload_and_half_close(server)
    unfriendly_clients(server)
    refused(f"127.0.0.1:{server.port}", "bind to 127.0.0.1:", "Address already in use")
    refused_to_nobody()
    refused("nowhere", '"nowhere"', "is no socket address")
    refused("127.0.0.1:99999", "99999", "from 0 to 65535")
    refused("localhost:80", "localhost", "names are not looked up")
    refused("192.0.2.1:80", "bind to 192.0.2.1:80: Cannot assign requested address")

    with server.connect() as idle:  # one that is there until the end
        idle.sendall(b"here")
        receive(idle, 4)
        code, out, _ = server.stop()
        check(code == 0, f"exit code {code} after SIGINT")
        check(out.endswith("bye\n"), f"no farewell in {out!r}")
        check(idle.recv(1) == b"", "the idle client did not see the end of the stream")

    code, out, errors = Server(ECHO).stop(signal.SIGTERM)
    check(code == 0 and out.endswith("bye\n") and not errors, "an orderly end by SIGTERM")

    if socket.has_ipv6:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            return
        server = Server(ECHO, address="[::1]:0")
        with server.connect() as stream:
            stream.sendall(b"six")
            check(receive(stream, 3) == b"six", "no echo over IPv6")
        check(server.stop()[0] == 0, "exit code after IPv6")


main()
