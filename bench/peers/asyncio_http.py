"""A web server on asyncio which greets everybody, with --uvloop on that loop; see asyncio_echo.py.

    python3 asyncio_http.py 127.0.0.1:8080 [--uvloop]

asyncio has no parser of HTTP: a request ends at its empty line, and nothing else is looked at.
"""

import asyncio
import sys

REQUEST_MAX = 16384
ANSWER = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n"
          b"Hello, world!\n")

buffer = memoryview(bytearray(65536))  # nobody keeps it beyond the callback


class Greeting(asyncio.BufferedProtocol):
    __slots__ = ("transport", "begun")

    def connection_made(self, transport):
        self.transport = transport
        self.begun = b""  # of a request

    def get_buffer(self, size_hint):
        return buffer

    def buffer_updated(self, size):
        *ended, self.begun = (self.begun + buffer[:size]).split(b"\r\n\r\n")
        if ended:
            self.transport.write(ANSWER * len(ended))
        if len(self.begun) > REQUEST_MAX:
            self.transport.abort()

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main(address):
    host, port = address.rsplit(":", 1)
    server = await asyncio.get_running_loop().create_server(Greeting, host, int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop
        uvloop.install()
    asyncio.run(main(sys.argv[1]))
