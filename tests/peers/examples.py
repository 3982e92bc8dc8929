#!/usr/bin/env python3
"""Every example that ends by itself runs on each engine, and can be recorded and replayed.

Arguments: the programs. In virtual time they take none; one that needs a network says so there.
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from subprocess import run

from peers import DEADLINE_S, check

NEEDS_NETWORK = {"happy_eyeballs"}


def output(program, **environment):
    done = run(
        [program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    text = f"{os.path.basename(program)} with {environment}: {done.stdout}{done.stderr}"
    check(done.returncode == 0, f"exit status {done.returncode} of {text}")
    check(done.stdout and not done.stderr, f"unexpected output of {text}")
    return done.stdout


def on_engines(program):
    output(program, TRAPLINE_ENGINE="epoll")
    if os.path.basename(program) not in NEEDS_NETWORK:
        once = output(program, TRAPLINE_ENGINE="simulation")
        again = output(program, TRAPLINE_ENGINE="simulation")
        check(once == again, f"two runs in virtual time differ: {once} and {again}")


def recorded(program, folder):
    file = os.path.join(folder, os.path.basename(program))
    before = output(program, TRAPLINE_RECORD=file)
    after = output(program, TRAPLINE_REPLAY=file)
    check(before == after, f"a replay differs: {before} and {after}")


def main():
    programs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        begun = [pool.submit(on_engines, program) for program in programs]
        begun += [pool.submit(recorded, program, folder) for program in programs]
        for one in begun:
            one.result()
    print(len(programs), "examples")


main()
