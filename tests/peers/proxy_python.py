#!/usr/bin/env python3
"""Connections through the proxy example. Argument: the example's path."""

import random
import socket
import sys
import threading

from peers import DEADLINE_S, Server, check, receive


def main():
    behind = socket.create_server(("127.0.0.1", 0))
    behind.settimeout(DEADLINE_S)
    proxy = Server(sys.argv[1], "127.0.0.1:%d" % behind.getsockname()[1])

    # Each direction ends by itself: all of the request, its end, then all of the answer.
    request = random.Random(1).randbytes(8 << 20)
    answer = random.Random(2).randbytes(8 << 20)
    with proxy.connect() as client:
        server, _ = behind.accept()
        server.settimeout(DEADLINE_S)

        def send():
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        check(receive(server, len(request) + 1) == request, "the request, and its end")
        sender.join()
        sender = threading.Thread(target=lambda: (server.sendall(answer), server.close()))
        sender.start()
        check(receive(client, len(answer) + 1) == answer, "the answer, and its end")
        sender.join()
    line = proxy.process.stdout.readline()
    check(line.endswith(f": {len(request)} bytes there, {len(answer)} back\n"), f"counts: {line}")

    # A reset on one side is seen on the other, and the proxy goes on.
    with proxy.connect() as client:
        server, _ = behind.accept()
        server.sendall(b"hello")
        check(receive(client, 5) == b"hello", "hello")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        client.settimeout(DEADLINE_S)
        try:
            check(client.recv(1) == b"", "the end of a stream that broke behind the proxy")
        except ConnectionResetError:
            pass

    # Nobody behind: the client is told by the end of the stream.
    behind.close()
    with proxy.connect() as client:
        client.settimeout(DEADLINE_S)
        try:
            check(client.recv(1) == b"", "the end, with nobody behind the proxy")
        except ConnectionResetError:
            pass
    code, out, errors = proxy.stop()
    check(code == 0 and out.endswith("bye\n"), f"an orderly end: {code}, {out!r}")
    check("Connection refused" in errors, f"what went wrong is logged: {errors!r}")


main()
