#!/usr/bin/env python3
"""What the tests beside this file expect of the future design, seen in Python's own asyncio.

Each scenario is one of those tests in Python, and its outcome is the same text. Exits with 77
where asyncio is too old to have timeout().
"""
import asyncio
import socket
import sys

if not hasattr(asyncio, "timeout"):
    print("skipped: needs Python 3.11")
    sys.exit(77)

scenarios = []


def shows(text):
    def keep(scenario):
        scenarios.append((scenario, text))
        return scenario
    return keep


async def outcome(body):
    try:
        await body
    except TimeoutError:
        return "timeout"
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def within(limit, body):
    async with asyncio.timeout(limit):
        return await body


async def notes_lock(lock, order, name):
    try:
        async with lock:
            order.append(name)
    except asyncio.CancelledError:
        order.append("-" + name)
        raise


@shows("abc")
async def event_wakes_all_though_it_is_cleared(order):
    event = asyncio.Event()

    async def notes(name):
        await event.wait()
        order.append(name)
    tasks = [asyncio.create_task(notes(name)) for name in "abc"]
    await asyncio.sleep(0)
    event.set()
    event.clear()
    await asyncio.wait(tasks)


@shows("aabbccaabbcc")
async def lock_in_the_order_of_asking(order):
    lock = asyncio.Lock()

    async def works(name):
        for _ in range(2):
            async with lock:
                order.append(name)
                await asyncio.sleep(0)
                order.append(name)
    await asyncio.wait([asyncio.create_task(works(name)) for name in "abc"])


@shows("mamc")
async def nobody_passes_one_who_was_woken(order):
    lock = asyncio.Lock()
    await lock.acquire()
    order.append("m")
    asyncio.create_task(notes_lock(lock, order, "a"))
    await asyncio.sleep(0)
    lock.release()
    assert not lock.locked()
    last = asyncio.create_task(notes_lock(lock, order, "c"))
    await notes_lock(lock, order, "m")
    await last


@shows("-ab")
async def who_was_woken_for_a_lock_and_is_cancelled_wakes_the_next(order):
    lock = asyncio.Lock()
    await lock.acquire()
    first, second = (asyncio.create_task(notes_lock(lock, order, name)) for name in "ab")
    await asyncio.sleep(0)
    lock.release()
    first.cancel()
    await second
    assert first.cancelled()


@shows("+0 +1 0 1 +2 +3 2 3 ")
async def queue_hands_over_in_order(order):
    queue = asyncio.Queue(2)

    async def producer():
        for i in range(4):
            await queue.put(i)
            order.append(f"+{i} ")

    async def consumer():
        for _ in range(4):
            order.append(f"{await queue.get()} ")
    asyncio.create_task(producer())
    await asyncio.create_task(consumer())


@shows("-a b1 ")
async def who_was_woken_to_get_and_is_cancelled_wakes_the_next(order):
    queue = asyncio.Queue(1)

    async def gets(name):
        try:
            order.append(f"{name}{await queue.get()} ")
        except asyncio.CancelledError:
            order.append(f"-{name} ")
            raise
    tasks = [asyncio.create_task(gets(name)) for name in "ab"]
    await asyncio.sleep(0)
    queue.put_nowait(1)
    tasks[0].cancel()
    await asyncio.wait(tasks)


@shows("-1 +2 +3 ")
async def who_was_woken_to_put_and_is_cancelled_wakes_the_next(order):
    queue = asyncio.Queue(1)
    queue.put_nowait(0)

    async def puts(n):
        try:
            await queue.put(n)
            order.append(f"+{n} ")
        except asyncio.CancelledError:
            order.append(f"-{n} ")
            raise
    tasks = [asyncio.create_task(puts(n)) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    assert queue.get_nowait() == 0
    tasks[0].cancel()
    await tasks[1]
    assert queue.get_nowait() == 2
    await tasks[2]


@shows("timeout timeout")
async def timeouts_nest(order):
    async def nested():
        order.append(await outcome(within(0.01, asyncio.sleep(60))) + " ")
        await asyncio.sleep(60)
    order.append(await outcome(within(0.2, nested())))
    assert asyncio.current_task().cancelling() == 0


@shows("body done timeout")
async def timeout_of_nothing(order):
    async def at_once():
        order.append("body ")
    order.append(await outcome(within(0, at_once())) + " ")
    order.append(await outcome(within(0, asyncio.sleep(0))))


@shows("cancelled timeout")
async def a_cancellation_from_elsewhere_is_no_timeout(order):
    task = asyncio.create_task(outcome(within(60, asyncio.sleep(60))))
    await asyncio.sleep(0)
    task.cancel()
    order.append(await task + " ")
    order.append(await outcome(asyncio.wait_for(asyncio.Event().wait(), 0.01)))


@shows("cancelled 7")
async def shield_keeps_what_is_behind_it(order):
    async def answers():
        await asyncio.sleep(0.01)
        return 7
    inner = asyncio.create_task(answers())
    outer = asyncio.shield(inner)
    outer.cancel()
    order.append(await outcome(outer) + f" {await inner}")


class Notes(asyncio.Protocol):
    def __init__(self, order, keep_open):
        self.order, self.keep_open = order, keep_open

    def connection_made(self, transport):
        self.order.append("made ")

    def data_received(self, data):
        self.order.append(f"data:{data.decode()} ")

    def eof_received(self):
        self.order.append("eof ")
        return self.keep_open

    def connection_lost(self, failure):
        self.order.append("lost" if failure is None else "lost:" + str(failure))


async def connected(order, keep_open=False):
    ours, peer = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: Notes(order, keep_open), ours)
    return transport, peer


async def settle():
    await asyncio.sleep(0.01)


@shows("made data:hello eof lost")
async def calls_of_a_protocol(order):
    _, peer = await connected(order)
    peer.send(b"hello")
    await settle()
    peer.close()
    await settle()


@shows("made eof lost")
async def eof_received_may_keep_it_open(order):
    transport, peer = await connected(order, keep_open=True)
    peer.shutdown(socket.SHUT_WR)
    await settle()
    assert not transport.is_closing()
    transport.write(b"after")
    await settle()
    assert peer.recv(100) == b"after"
    transport.close()
    await settle()


@shows("made lost")
async def what_comes_after_close_is_ignored(order):
    transport, peer = await connected(order)
    await settle()
    peer.send(b"ignored")
    transport.close()
    assert order == ["made "]
    await settle()


@shows("made data:still eof lost")
async def reading_goes_on_after_write_eof(order):
    transport, peer = await connected(order)
    transport.write(b"last")
    transport.write_eof()
    await settle()
    assert peer.recv(100) == b"last" and peer.recv(100) == b""
    peer.send(b"still")
    await settle()
    peer.close()
    await settle()


def main():
    failures = 0
    for scenario, text in scenarios:
        order = []
        asyncio.run(scenario(order))
        seen = "".join(order)
        if seen != text:
            failures += 1
            print(f"{scenario.__name__}: asyncio shows {seen!r}, the tests expect {text!r}")
    print(f"{len(scenarios) - failures} of {len(scenarios)} scenarios agree")
    sys.exit(1 if failures else 0)


main()
