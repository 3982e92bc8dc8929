"""Instructions of an operation, in user space: by perf where it counts here, else by callgrind."""

import os
import re
import subprocess
import tempfile

PERF = ["perf", "stat", "-x,", "-e", "instructions:u"]
CALLGRIND = ["valgrind", "--tool=callgrind", "--instr-atstart=no",
             "--callgrind-out-file=/dev/null"]
COLD = {"waiting"}  # programs that are not run to warm up


class NotCounted(Exception):
    """Why there is no number."""


def run(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as missing:
        raise NotCounted(f"{command[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise NotCounted(f"{command[0]} took longer than five minutes") from late


def perf_counts():
    """Whether perf counts instructions here: virtual machines often do not."""
    try:
        return perf_total(["true"]) > 0
    except NotCounted:
        return False


def perf_total(command):
    done = run([*PERF, *command])
    line = next((line for line in done.stderr.splitlines() if "instructions" in line), "")
    count = line.split(",")[0]
    if done.returncode != 0 or not count.isdigit():
        raise NotCounted(f"perf: {done.stderr.strip()[-200:] or 'no count'}")
    return int(count)


def by_perf(program, case, share):
    """Twice as many operations less once as many: what starting costs falls out."""
    commands = [[program, *case.arguments(share * so_many)] for so_many in (1, 2)]
    once, twice = map(perf_total, commands)
    operations = [operations_of(command) for command in commands]
    if operations[0] == operations[1]:
        raise NotCounted("as many operations in both runs")
    runs = 1 if case.program in COLD else 2
    return (twice - once) / (operations[1] - operations[0]) / runs


def operations_of(command):
    done = run(command)
    if found := re.search(r'"operations": (\d+)', done.stdout):
        return int(found[1])
    raise NotCounted(done.stderr.strip()[-200:])


class Callgrind:
    """Counts what a program's measured part executes; it switches the counting on itself."""

    name = "callgrind"
    share = 0.1

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()

    def bare(self, program):
        """A copy without debug symbols, of which older valgrinds do not know the newest kind."""
        copy = os.path.join(self.folder.name, os.path.basename(program))
        if not os.path.exists(copy):
            done = run(["objcopy", "--strip-debug", program, copy])
            if done.returncode != 0:
                raise NotCounted(f"objcopy: {done.stderr.strip()[-200:]}")
        return copy

    def command(self, program, case):
        return [*CALLGRIND, program, *case.arguments(self.share)]

    def count(self, program, case):
        done = run(self.command(self.bare(program), case))
        total = re.search(r"Collected : (\d+)", done.stderr)
        operations = re.search(r'"operations": (\d+)', done.stdout)
        if done.returncode != 0 or not total or not operations:
            raise NotCounted(f"callgrind cannot run it: {done.stderr.strip()[-200:]}")
        if int(total[1]) == 0:
            raise NotCounted("the program was built without valgrind/callgrind.h")
        return int(total[1]) / max(int(operations[1]), 1)


class Perf:
    """Counts what the processor executes, with its own counters."""

    name = "perf stat"
    share = 0.5

    def command(self, program, case):
        return [*PERF, program, *case.arguments(self.share)]

    def count(self, program, case):
        return by_perf(program, case, self.share)


def counter():
    return Perf() if perf_counts() else Callgrind()
