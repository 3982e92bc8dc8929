#!/usr/bin/env python3
"""Several people in the chat example, one of whom never reads. Argument: the example's path."""

import sys

from peers import Server, check


class Person:
    def __init__(self, server, name):
        self.stream = server.connect()
        self.lines = self.stream.makefile("r", newline="\n")
        check(self.lines.readline() == "your name?\n", "the question for the name")
        self.say(name)

    def say(self, line):
        self.stream.sendall(f"{line}\n".encode())

    def hears(self, line):
        heard = self.lines.readline()
        check(heard == line + "\n", f"{line!r} was expected, not {heard!r}")


def main():
    server = Server(sys.argv[1])
    ada = Person(server, "ada")
    bob = Person(server, "bob")
    ada.hears("bob has come")
    cyd = Person(server, "cyd")
    ada.hears("cyd has come")
    bob.hears("cyd has come")
    ada.say("hello")
    bob.hears("ada: hello")
    cyd.hears("ada: hello")

    # From here on cyd does not read. 20 MB is more than the sockets hold.
    line = "x" * 900
    count = 20_000
    for n in range(count):
        ada.say(f"{line} {n}")
        heard = bob.lines.readline()
        if heard == "cyd has gone\n":
            heard = bob.lines.readline()
        check(heard == f"ada: {line} {n}\n", f"bob misses line {n}: {heard[-30:]!r}")
    ada.say("still there?")
    bob.hears("ada: still there?")
    bob.say("yes")
    heard = ada.lines.readline()
    check(heard == "cyd has gone\n", f"who reads too slowly is shown out, not {heard[-30:]!r}")
    ada.hears("bob: yes")

    bob.stream.close()
    bob.lines.close()
    ada.hears("bob has gone")

    # A line without end is cut off by its limit, and hurts nobody else.
    dan = Person(server, "dan")
    ada.hears("dan has come")
    dan.stream.sendall(b"y" * 5000)
    ada.hears("dan has gone")
    code, out, _ = server.stop()
    check(code == 0 and out.endswith("bye\n"), f"an orderly end: {code}, {out!r}")


main()
