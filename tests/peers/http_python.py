#!/usr/bin/env python3
"""Asks the http example by Python's http.client, and by sockets what that would not send.

Argument: the example's path. Many clients, garbage, requests that stop half way, clients that go
away, then the end of the server with a request under way; and starts that must fail.
"""

import http.client
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import peers
from peers import DEADLINE_S, check

HTTP = sys.argv[1]


class Server(peers.Server):
    def __init__(self, *arguments):
        super().__init__(HTTP, *arguments)

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def to_the_end(stream):
    received = bytearray()
    while part := stream.recv(65536):
        received += part
    return bytes(received)


def said(server, data):
    """What the server answers to some bytes, until it ends the stream, without a reset."""
    with server.connect() as stream:
        stream.sendall(data)
        return to_the_end(stream)


def many_clients(server):
    """32 clients with 50 requests each, on connections that stay."""
    failures = []

    def client(number):
        try:
            connection = server.client()
            for i in range(50):
                connection.request("GET", f"/hello/{number}-{i}")
                answer = connection.getresponse()
                body = answer.read().decode()
                if answer.status != 200 or f"<p>Hello {number}-{i}!" not in body:
                    failures.append(f"client {number}: {answer.status} {body!r}")
                    return
            connection.close()
        except OSError as failure:
            failures.append(f"client {number}: {failure}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, failures)


def methods(server):
    connection = server.client()
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    check(answer.read() == b"" and answer.getheader("Content-Length") == "14", "HEAD")
    connection.request("POST", "/", body=b"x" * 10_000)
    answer = connection.getresponse()
    answer.read()
    check(answer.status == 405 and answer.getheader("Allow") == "GET, HEAD", "POST")
    connection.request("POST", "/", body=iter([b"a" * 100, b"b" * 5000]))  # chunked
    answer = connection.getresponse()
    answer.read()
    check(answer.status == 405, f"a chunked POST: {answer.status}")
    connection.request("OPTIONS", "*")
    answer = connection.getresponse()
    answer.read()
    check(answer.status == 204, f"OPTIONS *: {answer.status}")
    connection.close()


def too_much(server):
    """The answer comes though the client has not sent all; and can be read, without a reset."""
    with server.connect() as stream:
        stream.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(8):
            stream.sendall(b"x" * 65536)
        check(to_the_end(stream).startswith(b"HTTP/1.1 413 "), "no 413")


def garbage(server):
    for data in (b"\r\n\r\n\r\n\r\n", b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\n\n",
                 b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n"):
        answer = said(server, data)
        check(answer.startswith(b"HTTP/1.1 400 ") and b"\r\nConnection: close\r\n" in answer,
              f"{data!r} was answered by {answer[:100]!r}")
    dice = random.Random(1)
    for _ in range(200):
        with server.connect() as stream:
            try:
                stream.sendall(dice.randbytes(dice.randrange(1, 5000)) + b"\n" * 4)
                stream.shutdown(socket.SHUT_WR)
                to_the_end(stream)
            except ConnectionError:
                pass
    # In whatever pieces a request comes, also with pauses between them.
    with server.connect() as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /hello/slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
            stream.sendall(bytes([byte]))
            time.sleep(0.001)
        check(b"<p>Hello slow!" in to_the_end(stream), "a request byte by byte")


def unfriendly_clients(server, path):
    """Resets and ends, idle, with half a request, and while a large answer is on its way."""
    before = server.descriptors()
    for data in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
                 b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
        for is_reset in (False, True):
            for _ in range(10):
                with server.connect() as stream:
                    stream.sendall(data)
                    if data:
                        time.sleep(0.002)
                    if is_reset:
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + b"\0" * 3 +
                                          b"\0" * 4)
    connection = server.client()
    connection.request("GET", "/hello/still-there")
    check(connection.getresponse().read(), "nobody there after unfriendly clients")
    connection.close()
    for _ in range(500):
        if server.descriptors() <= before:
            return
        time.sleep(0.01)
    check(False, f"{server.descriptors()} descriptors are open, {before} were")


def stalled_client(server, path, content):
    """One that does not read harms nobody, and gets all of it in the end."""
    with server.connect() as stalled:
        stalled.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        connection = server.client()
        for _ in range(20):
            connection.request("GET", "/hello/other")
            check(connection.getresponse().read(), "no answer beside a stalled client")
        connection.close()
        check(to_the_end(stalled).endswith(content), "a large answer after a pause")


def stop_in_between(server, path, content):
    """Idle clients see the end at once; what was asked for before is answered to its end."""
    with server.connect() as idle, server.connect() as busy:
        idle.sendall(b"GET /hello/x HTTP/1.1\r\nHost: a\r\n\r\n")
        check(idle.recv(1000), "the idle one")
        busy.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        start = busy.recv(1000)
        server.process.send_signal(signal.SIGTERM)
        check(idle.recv(1) == b"", "the idle client did not see the end of the stream")
        check((start + to_the_end(busy)).endswith(content), "an answer was cut off by SIGTERM")
    out, errors = server.process.communicate(timeout=DEADLINE_S)
    check(server.process.returncode == 0 and out.endswith("bye\n"),
          f"exit code {server.process.returncode}, {out!r}")
    check(errors == "", f"messages: {errors}")


def refused(arguments, code, *expected):
    ended = subprocess.run([HTTP, *arguments], capture_output=True, text=True, timeout=DEADLINE_S,
                           check=False)
    check(ended.returncode == code, f"http {arguments}: exit code {ended.returncode}")
    check(len(ended.stderr.splitlines()) == 1, f"http {arguments}: {ended.stderr!r}")
    for text in expected:
        check(text in ended.stderr, f"http {arguments}: {text!r} is not in {ended.stderr!r}")


def main():
    content = random.Random(2).randbytes(30_000_000)
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/large.bin", "wb") as file:
            file.write(content)
        server = Server()
        many_clients(server)
        methods(server)
        too_much(server)
        garbage(server)
        refused([f"127.0.0.1:{server.port}"], 1, "bind to 127.0.0.1:", "Address already in use")
        code, out, errors = server.stop()
        check(code == 0 and out.endswith("bye\n") and errors == "", f"{code} {out!r} {errors!r}")

        server = Server(folder)
        unfriendly_clients(server, b"/large.bin")
        stalled_client(server, b"/large.bin", content)
        stop_in_between(server, b"/large.bin", content)
        refused(["nowhere"], 1, '"nowhere"')
        refused(["127.0.0.1:0", "/no/such/folder"], 1, "/no/such/folder", "No such file")
        refused(["127.0.0.1:0", "--what"], 2, "http ADDRESS:PORT")
        refused(["127.0.0.1:0", "--tls", "/no/cert", "/no/key"], 1)


main()
