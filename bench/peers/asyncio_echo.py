"""An echo server on asyncio, with --uvloop on that loop.

    python3 asyncio_echo.py 127.0.0.1:25000 [--uvloop]

What their users tune: protocols rather than streams; and a buffer of their own, as each asyncio
allocates has 256 KiB, which some days means three system calls for memory a message.
"""

import asyncio
import sys

buffer = memoryview(bytearray(65536))  # nobody keeps it beyond the callback


class Echo(asyncio.BufferedProtocol):
    __slots__ = ("transport",)

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, size_hint):
        return buffer

    def buffer_updated(self, size):
        self.transport.write(bytes(buffer[:size]))

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main(address):
    host, port = address.rsplit(":", 1)
    server = await asyncio.get_running_loop().create_server(Echo, host, int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop
        uvloop.install()
    asyncio.run(main(sys.argv[1]))
