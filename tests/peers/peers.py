"""What the Python peers share: an example started on a free port, and checks."""

import re
import signal
import socket
import subprocess
import sys

DEADLINE_S = 20


def check(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


class Server:
    """An example that prints its address in the first line. `arguments` follow the address."""

    def __init__(self, program, *arguments, address="127.0.0.1:0"):
        self.process = subprocess.Popen(
            [program, address, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.announced = self.process.stdout.readline()
        found = re.search(r"(\[.*?\]|[\d.]+):(\d+)", self.announced)
        if not found:
            self.process.kill()
            sys.exit(f"no address in {self.announced!r}: {self.process.communicate()}")
        self.host, self.port = found[1].strip("[]"), int(found[2])

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=DEADLINE_S)

    def stop(self, how=signal.SIGINT):
        """Answers exit code, output and complaints."""
        self.process.send_signal(how)
        out, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, errors


def receive(stream, size):
    """Up to `size` bytes; fewer only at the end of the stream."""
    received = bytearray()
    while len(received) < size:
        part = stream.recv(min(65536, size - len(received)))
        if not part:
            break
        received += part
    return bytes(received)
