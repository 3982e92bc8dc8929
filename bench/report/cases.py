"""What is run: the programs of ../designs/program.hpp with their numbers, and how much of each."""

from dataclasses import dataclass

DESIGNS = ["trap", "future", "awaiter"]


@dataclass(frozen=True)
class Case:
    """A program with its numbers. `operations` is None where each task is one operation."""

    group: str
    title: str
    program: str
    numbers: tuple
    operations: int | None = None

    @property
    def key(self):
        return " ".join([self.program, *self.numbers])

    def arguments(self, share=1.0):
        """The command's arguments, for that share of the operations."""
        if self.operations is None:
            return [self.program, *(shrunk(number, share) for number in self.numbers)]
        return [self.program, *self.numbers, f"operations={self.fewer(share)}"]

    def fewer(self, share):
        tasks = int(dict(number.split("=") for number in self.numbers).get("tasks", 1))
        width = int(dict(number.split("=") for number in self.numbers).get("width", 1))
        least = max(tasks, width)  # at least one each
        return max(int(self.operations * share) // least, 1) * least


def shrunk(number, share):
    name, value = number.split("=")
    return f"{name}={max(int(int(value) * min(share, 1)), 1000)}" if name == "tasks" else number


def switch(title, tasks, depth):
    return Case("tasks", title, "switch", (f"tasks={tasks}", f"depth={depth}"), 2_000_000)


CASES = [
    switch("switch, 1 task", 1, 1),
    switch("switch, 100 tasks", 100, 1),
    switch("switch, 10,000 tasks", 10_000, 1),
    switch("switch, 3 deep", 1, 3),
    switch("switch, 10 deep", 1, 10),
    Case("tasks", "spawn + join", "spawn_join", (), 500_000),
    Case("tasks", "gather 1,000", "gather", ("width=1000",), 300_000),
    Case("meeting", "lock, 100 tasks", "lock", ("tasks=100",), 1_000_000),
    Case("meeting", "queue, hand-over", "queue", (), 1_000_000),
    Case("meeting", "cancel 10,000", "cancel", ("tasks=10000",)),
    Case("time", "timer storm", "timers", ("tasks=10000",), 30_000),
    Case("time", "limit in time", "limit", (), 50_000),
    Case("time", "limit, linked", "limit_linked", (), 50_000),
    Case("io", "no-op, 1 task", "nop", ("tasks=1",), 50_000),
    Case("io", "no-op, 32 tasks", "nop", ("tasks=32",), 320_000),
    Case("io", "pipe, 64 B", "pipe", (), 20_000),
    Case("memory", "waiting task", "waiting", ("tasks=100000",)),
]

ONLY_IN = {"limit_linked": "awaiter"}  # programs that stand in one design


@dataclass(frozen=True)
class Effort:
    """How much a run does."""

    name: str
    rounds: int  # of the programs
    share: float  # of their operations
    server_rounds: int
    seconds: float  # of a server's round
    echoes: tuple  # (bytes, connections) in the designs
    connections: tuple  # beside raw C
    trips: int  # of each socket pair
    repeated_max: int  # rounds that were disturbed
    compilations: int
    counted: tuple | None  # programs whose instructions are counted; None: all


EFFORTS = {
    "quick": Effort("quick", 5, 1.0, 3, 0.5, ((64, 64),), (64,), 1000, 15, 1, None),
    "full": Effort("full", 15, 2.0, 9, 1.0,
                   ((64, 1), (64, 64), (64, 512), (64, 4096), (4096, 64)),
                   (64, 512, 4096), 4000, 40, 3, None),
    "smoke": Effort("smoke", 1, 0.1, 1, 0.2, ((64, 64),), (64,), 200, 0, 0, ("switch", "nop")),
}


def echo_key(size, connections):
    return f"echo {size} B, {connections:,} connection{'' if connections == 1 else 's'}"


HTTP_KEY = "http, 64 connections"
