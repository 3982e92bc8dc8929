"""What is wanted of the trap design, and what the numbers say to it."""

from dataclasses import dataclass

from samples import number, ratio, summary, verdict

REACHED, MISSED, UNKNOWN = "reached", "missed", "not measured"
RAW = ["raw io_uring, multishot", "raw io_uring, single"]


@dataclass(frozen=True)
class Outcome:
    goal: str
    wanted: str
    measured: str
    state: str
    note: str = ""


def samples_of(results, key, design, measure="cpu_ns"):
    cases = (results.get("designs") or {}).get("cases", {})
    return cases.get(key, {}).get("designs", {}).get(design, {}).get(measure)


def judged(goal, limit, ours, theirs, tie_is_reached=False):
    """At most `limit` times as much as they."""
    of = ratio(ours, theirs)
    wanted = f"at most {limit:.2f}"
    if of is None:
        return Outcome(goal, wanted, "–", UNKNOWN)
    state = REACHED if of <= limit else MISSED
    note = ""
    if state == MISSED and tie_is_reached and verdict(ours, theirs) == "tie":
        state, note = REACHED, "a tie: the difference is smaller than the spread"
    elif state == MISSED:
        note = f"missed by {(of / limit - 1) * 100:.1f} %"
    if state == REACHED and min(len(ours), len(theirs)) < 3:
        note = "of too few rounds to be sure"
    return Outcome(goal, wanted, f"{of:.3f}", state, note)


def against_designs(results):
    for goal, key, limits in (
            ("switch, 1 task", "switch tasks=1 depth=1", {"awaiter": 1.15, "future": 0.5}),
            ("spawn + join", "spawn_join", {"awaiter": 1.0, "future": 0.5}),
            ("queue, hand-over", "queue", {"awaiter": 1.0}),
            ("time limit around an operation in time", "limit", {"future": 0.3})):
        for other, limit in limits.items():
            yield judged(f"{goal}: trap / {other}", limit, samples_of(results, key, "trap"),
                         samples_of(results, key, other))
    yield judged("time limit: trap / linked io_uring timeout in awaiter", 0.5,
                 samples_of(results, "limit", "trap"),
                 samples_of(results, "limit_linked", "awaiter"))


def better_raw(servers):
    """The samples of the better of both raw servers."""
    candidates = [servers[name] for name in RAW if name in servers]
    return min(candidates, key=lambda of: summary(of["cpu_ns"]).median)["cpu_ns"] \
        if candidates else None


def against_raw(results):
    servers = results.get("servers") or {}
    tcp = servers.get("tcp", {})
    for connections in sorted({"64", "512", "4096", *tcp}, key=int):
        of = tcp.get(connections, {})
        yield judged(f"echo, {int(connections):,} connections: ours / raw C on io_uring", 1.0,
                     of.get("ours", {}).get("cpu_ns"), better_raw(of), tie_is_reached=True)
    unix = servers.get("unix", {})
    yield judged("echo over socket pairs: ours / raw C on io_uring", 1.01,
                 unix.get("ours", {}).get("cpu_ns"), unix.get("raw io_uring", {}).get("cpu_ns"))
    for connections, of in sorted(tcp.items(), key=lambda item: int(item[0])) or [("64", {})]:
        yield judged(f"echo, {int(connections):,} connections: ours / raw C on epoll", 0.87,
                     of.get("ours", {}).get("cpu_ns"), of.get("raw epoll", {}).get("cpu_ns"))


def is_ours(name):
    """In one of its ways to receive."""
    return name.startswith("ours")


def is_raw(name):
    return name.startswith("raw")


def ahead_of_peers(results):
    """The closest of the peers that are not raw C decides."""
    echo = (results.get("peers") or {}).get("echo", {})
    for connections, of in sorted(echo.items(), key=lambda item: int(item[0])) or [("64", {})]:
        goal = f"echo, {int(connections):,} connections: ahead of every peer but raw C"
        ours = of.get("ours", {}).get("cpu_ns")
        others = {name: one["cpu_ns"] for name, one in of.items()
                  if not is_ours(name) and not is_raw(name) and one.get("cpu_ns")}
        if not ours or not others:
            yield Outcome(goal, "below 1", "–", UNKNOWN)
            continue
        closest = min(others, key=lambda name: summary(others[name]).median)
        by, said = ratio(ours, others[closest]), verdict(ours, others[closest])
        state = REACHED if by < 1 and said in ("less", "unknown") else MISSED
        note = f"closest: {closest}"
        if said == "tie":
            note += ", a tie: the difference is smaller than the spread"
        elif said == "unknown":
            note += ", of too few rounds to be sure"
        elif state == MISSED:
            note += f", missed by {(by - 1) * 100:.1f} %"
        yield Outcome(goal, "below 1", f"{by:.3f}", state, note)


def least_memory(results):
    goal, wanted = "memory of a connected idle client: the lowest", "below all others"
    idle = (results.get("peers") or {}).get("idle_bytes", {})
    others = {name: value for name, value in idle.items() if not is_ours(name)}
    if "ours" not in idle or not others:
        return Outcome(goal, wanted, "–", UNKNOWN)
    ours, lowest = idle["ours"], min(others, key=others.get)
    note = f"{lowest}: {number(others[lowest])} B"
    if ours < others[lowest]:
        return Outcome(goal, wanted, f"{number(ours)} B", REACHED, note)
    return Outcome(goal, wanted, f"{number(ours)} B", MISSED,
                   f"{note}, missed by {number(ours - others[lowest])} B")


def pipelined(results):
    """98 % of raw C's requests: as many for the same processor time."""
    of = (results.get("servers") or {}).get("pipelined") or {}
    return judged("16 requests in flight a connection: ours / raw io_uring", 1 / 0.98,
                  of.get("ours", {}).get("cpu_ns"), better_raw(of))


def outcomes(results):
    return [*against_designs(results), *against_raw(results), *ahead_of_peers(results),
            least_memory(results), pipelined(results)]
