#!/usr/bin/env python3
"""Talks to the TLS echo example with Python's ssl module. Arguments: tls_echo, tls_ask.

Many clients at once, a large payload both ways, half a close; clients that go without close_notify,
that reset, and that send garbage.
"""

import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from peers import DEADLINE_S, Server, check, receive

ECHO, ASK = sys.argv[1:3]


def make_certificate(folder):
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        capture_output=True, text=True, check=False)
    check(done.returncode == 0, done.stderr)


def many_clients(server, context):
    failures = []

    def client(seed):
        dice = random.Random(seed)
        try:
            with context.wrap_socket(server.connect(), server_hostname="localhost") as stream:
                for _ in range(30):
                    message = dice.randbytes(dice.randrange(1, 20_000))
                    stream.sendall(message)
                    if receive(stream, len(message)) != message:
                        failures.append(f"client {seed}: not what was sent")
                        return
                stream.unwrap().close()  # close_notify both ways, or an error
        except OSError as failure:
            failures.append(f"client {seed}: {failure}")

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, failures)


def large_payload(server, context):
    """What Python sends while it receives: its SSL objects allow one thread at a time."""
    payload = random.Random(1).randbytes(8 << 20)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    received, sent, shaken = bytearray(), 0, False
    with server.connect() as stream:
        stream.setblocking(False)
        pending = b""
        while len(received) < len(payload):
            try:
                if not shaken:
                    tls.do_handshake()
                    shaken = True
                if sent < len(payload) and len(pending) < 100_000:
                    sent += tls.write(payload[sent:sent + 16384])
                received += tls.read(65536)
            except ssl.SSLWantReadError:
                pass
            pending += outgoing.read()
            try:
                pending = pending[stream.send(pending):] if pending else pending
            except BlockingIOError:
                pass
            try:
                data = stream.recv(65536)
                check(data, "the server ended")
                incoming.write(data)
            except BlockingIOError:
                pass
    check(bytes(received) == payload, "8 MiB came back otherwise than sent")


def unfriendly_clients(server, context):
    for _ in range(5):
        stream = context.wrap_socket(server.connect(), server_hostname="localhost")
        stream.sendall(b"x" * 1000)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.close()  # a reset
        stream = context.wrap_socket(server.connect(), server_hostname="localhost")
        stream.sendall(b"y")
        check(receive(stream, 1) == b"y", "no echo")
        stream.close()  # without close_notify
        with server.connect() as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
            try:
                garbage.recv(1000)
            except ConnectionResetError:
                pass
        server.connect().close()
    with context.wrap_socket(server.connect(), server_hostname="localhost") as stream:
        stream.sendall(b"still there?")
        check(receive(stream, 12) == b"still there?", "no echo after unfriendly clients")


def our_client(folder):
    """tls_ask, whose server is Python."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)

        def serve(orderly):
            with context.wrap_socket(listener.accept()[0], server_side=True) as stream:
                line = stream.recv(100)
                stream.sendall(b"you said " + line)
                while stream.recv(100):  # what is left unread at a close would make it a reset
                    pass
                if orderly:
                    stream.unwrap()

        for orderly in (True, False):
            server = threading.Thread(target=serve, args=(orderly,))
            server.start()
            asked = subprocess.run(
                [ASK, f"127.0.0.1:{listener.getsockname()[1]}", "localhost", "--ca",
                 f"{folder}/cert.pem", "hello"],
                capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            server.join()
            check("you said hello\n" == asked.stdout, asked)
            if orderly:
                check(asked.returncode == 0, asked)
            else:
                check(asked.returncode == 1, asked)
                check("cut off without close_notify" in asked.stderr, asked)


def main():
    if not shutil.which("openssl"):
        print("there is no openssl here")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(folder)
        context = ssl.create_default_context(cafile=f"{folder}/cert.pem")
        context.set_alpn_protocols(["echo"])
        server = Server(ECHO, "--cert", f"{folder}/cert.pem", "--key", f"{folder}/key.pem")
        many_clients(server, context)
        large_payload(server, context)
        unfriendly_clients(server, context)
        with context.wrap_socket(server.connect(), server_hostname="localhost") as idle:
            check(idle.selected_alpn_protocol() == "echo", "no ALPN")
            code, out, errors = server.stop()
            check(code == 0, f"exit code {code} after SIGINT: {errors}")
            check(out.endswith("bye\n"), f"no farewell in {out!r}")
        check("http request" in errors, errors)
        our_client(folder)
        missing = subprocess.run([ECHO, "127.0.0.1:0", "--cert", "/no/such", "--key", "/no"],
                                 capture_output=True, text=True, check=False)
        check(missing.returncode == 1
              and missing.stderr == "tls_echo: read /no/such: No such file or directory\n",
              missing)


main()
