"""The report as a row of sections: what page.py and markdown.py both show."""

import compare
import findings
import goals
from parts import Plot, Section, Table
from samples import JUDGED_FROM, number, summary, verdict, with_spread

DESIGN_TEXTS = {
    "trap": "A coroutine that has to wait yields a trap: a plain value that says what it asks, "
            "such as “receive into this buffer”. A kernel reads it, does it, and sends "
            "back a reply. The coroutine knows no loop, so another kernel (a simulation, a "
            "recording, a test) can be put below compiled code. This is Trapline itself.",
    "future": "The design of Python’s asyncio. An operation answers a future, an object that "
              "will hold the result; a task awaits it, and a callback that the loop calls in its "
              "next turn resumes the task. Futures can be kept, passed on and waited for by many. "
              "Each costs an object and a turn of the loop.",
    "awaiter": "The design of most C++ coroutine libraries. The operation’s state lives in "
               "the awaiter, inside the waiting coroutine’s frame, and the completion resumes "
               "that coroutine directly. Between the coroutine and the engine there is only its "
               "scheduler, and that one is compiled in: another engine can be put below it, but "
               "no other loop.",
}
GROUPS = {
    "tasks": ("Tasks", "A task lets others run (from the depth of some coroutines), is made and "
              "waited for, or is one of a thousand whose results are summed up."),
    "meeting": ("Tasks that wait for each other", "A lock that a hundred tasks want, a number "
                "handed from task to task by queues of one, and the cancellation of ten thousand "
                "tasks that wait."),
    "time": ("Time", "Ten thousand tasks sleep under limits, both random and below 10 ms; and an "
             "operation that does nothing, under a limit of ten seconds that it never reaches. "
             "“Linked” leaves the limit to io_uring’s own linked timeout."),
    "io": ("Operations of the ring", "Operations that do nothing, one at a time and 32 at once, "
           "and 64 bytes to and fro through pipes."),
    "memory": ("Memory of a task", "A hundred thousand tasks wait for an event."),
    "servers": ("Servers, in each design", "The same echo and HTTP services written in each "
                "design; an HTTP request is answered within a time limit of its own. The server "
                "has one core, its load another."),
}
MEASURES = [("cpu_ns", "CPU ns"), ("ns", "time ns"), ("instructions", "instructions"),
            ("allocations", "allocations"), ("allocated_bytes", "bytes allocated"),
            ("system_calls", "system calls"), ("resident_bytes", "resident bytes"),
            ("per_second", "a second"), ("p50_us", "p50 µs"), ("p99_us", "p99 µs")]


def measured(of):
    """The measures that any design has samples of, in their order."""
    return [(key, title) for key, title in MEASURES
            if any(design.get(key) for case in of for design in case["designs"].values())]


def standing(case, design):
    """The verdict on a design's processor time beside trap's."""
    of = case["designs"]
    if design == "trap" or not of.get("trap", {}).get("cpu_ns"):
        return ""
    said = verdict(of[design]["cpu_ns"], of["trap"]["cpu_ns"])
    return {"less": "less", "more": "more", "tie": "tie", "unknown": "?"}[said]


def case_table(cases):
    measures = measured(cases)
    rows = []
    for case in cases:
        for design, of in case["designs"].items():
            rows.append([case["title"], design,
                         *(with_spread(of.get(key)) for key, _ in measures),
                         standing(case, design)])
    return Table(["program", "design", *(title for _, title in measures), "beside trap"], rows,
                 "For one operation: medians, ± half of the interquartile range.")


def case_plots(key, title, cases):
    plots = [Plot(f"{key}-cpu", f"{title}: CPU time of an operation", "ns", "dots",
                  [(case["title"], {design: of["cpu_ns"]
                                    for design, of in case["designs"].items()})
                   for case in cases])]
    memory = [(case["title"], {design: of["resident_bytes"] for design, of in
                               case["designs"].items() if of.get("resident_bytes")})
              for case in cases]
    if any(of for _, of in memory):
        plots = [Plot(f"{key}-bytes", "Resident memory of a waiting task", "B", "bars",
                      [(design, {design: values}) for _, of in memory
                       for design, values in of.items()])]
    return plots


def group_section(key, cases):
    title, text = GROUPS[key]
    return Section(key, title, [text], [], case_plots(key, title, cases), [case_table(cases)],
                   [paragraph for case in cases if (paragraph := findings.of_case(case))],
                   [command for case in cases for command in case["commands"]])


def code_section(code):
    marks = {mark for of in code.values() for mark in of["lines"]} - {"all"}
    order = [mark for of in code.values() for mark in of["lines"] if mark in marks]
    lines = Table(["program", *code],
                  [[mark, *(str(of["lines"].get(mark, "–")) for of in code.values())]
                   for mark in [*dict.fromkeys(order), "all"]],
                  "Lines of user code, without blank lines and comments; "
                  "“all” is the whole file.")
    size = Table(["design", "machine code of the programs, B", "of the executable, B",
                  "CPU s to compile"],
                 [[design, f"{of['object_text']:,}", f"{of['program_text']:,}",
                   with_spread(of["compile_seconds"])] for design, of in code.items()],
                 "Machine code is what the .text sections hold. The executable holds the design’s "
                 "runtime and the engine, too.")
    plots = [Plot("code-lines", "Lines of user code", "lines", "bars",
                  [(design, {design: [of["lines"]["all"]]}) for design, of in code.items()]),
             Plot("code-text", "Machine code of the programs", "B", "bars",
                  [(design, {design: [of["object_text"]]}) for design, of in code.items()])]
    commands = [command for design, of in code.items() for command in
                (f"size -A build/bench/designs/design_{design}", of["compile_command"])]
    return Section("code", "What the programs are to write, compile and load",
                   ["All programs of a design stand in one file. Of its length, what it "
                    "compiles to, and how long that takes:"], [],
                   plots, [size, lines], [findings.of_code(code)], commands)


def server_table(servers):
    keys = [(key, title) for key, title in MEASURES
            if any(of.get(key) for of in servers.values())]
    return Table(["server", *(title for _, title in keys)],
                 [[name, *(with_spread(of.get(key)) for key, _ in keys)]
                  for name, of in servers.items()],
                 "For one request: medians, ± half of the interquartile range.")


def add_servers(section, key, title, servers):
    section.plots.append(Plot(key, f"{title}: server CPU a request", "ns", "bars", sorted(
        ((name, {"ours" if name.startswith("ours") else "peer": of["cpu_ns"]})
         for name, of in servers.items()),
        key=lambda row: sorted(next(iter(row[1].values())))[len(next(iter(row[1].values()))) // 2],
    )))
    table = server_table(servers)
    table.caption = f"{title}. {table.caption}"
    section.tables.append(table)
    section.findings.append(findings.of_servers(title, servers))


def raw_section(servers):
    section = Section("raw", "Beside the best that can be written by hand in C", [
        "An echo server of 64 bytes, ours beside raw C on liburing and on epoll, over loopback "
        "TCP with the server on one core and its load on another; and 64 pairs of Unix sockets "
        "within one process, which leaves the network out."], commands=servers["commands"])
    for connections, of in servers["tcp"].items():
        add_servers(section, f"raw-{connections}", f"TCP echo, {int(connections):,} connections",
                    of)
    if servers["pipelined"]:
        add_servers(section, "raw-pipelined",
                    "TCP echo, 64 connections with 16 requests in flight each",
                    servers["pipelined"])
    if servers["unix"]:
        add_servers(section, "raw-unix", "echo over socket pairs", servers["unix"])
    return section


def peers_section(peers):
    section = Section("peers", "Beside other libraries", [
        "The same services on the libraries that Debian packages, each as its documentation "
        "writes it and tuned as its users tune it; one core for the server, one for the load."],
        commands=peers.get("commands", []))
    for kind in ("echo", "http"):
        for connections, of in peers.get(kind, {}).items():
            add_servers(section, f"peers-{kind}-{connections}",
                        f"{kind}, {int(connections):,} connections", of)
    for of in peers.get("redis", {}).values():
        section.findings += [f"For scale, a PING to {name} costs it "
                             f"{number(summary(one['cpu_ns']).median)} ns."
                             for name, one in of.items()]
    if idle := peers.get("idle_bytes"):
        section.plots.append(Plot("peers-idle", "Memory of a connected idle client", "B", "bars", [
            (name, {"ours" if name.startswith("ours") else "peer": [value]})
            for name, value in sorted(idle.items(), key=lambda item: item[1])]))
        section.tables.append(Table(["server", "bytes of an idle client"], [
            [name, number(value)] for name, value in idle.items()]))
        section.findings.append(findings.of_idle(idle))
    if missing := peers.get("missing"):
        section.findings.append("Not installed here, so not measured: " + "; ".join(
            f"{name} ({where})" for name, where in missing.items()) + ".")
    if versions := peers.get("versions"):
        section.tables.append(Table(["peer", "version"], [list(row) for row in versions.items()]))
    return section


def goals_section(results):
    outcomes = goals.outcomes(results)
    count = {state: sum(one.state == state for one in outcomes)
             for state in (goals.REACHED, goals.MISSED, goals.UNKNOWN)}
    section = Section("goals", "The goals", [
        "What the trap design is wanted to reach, in processor time unless something else is "
        "said; ratios are those of the rounds, their median."])
    section.tables = [Table(["goal", "wanted", "measured", "outcome", ""], [
        [one.goal, one.wanted, one.measured, one.state, one.note] for one in outcomes])]
    section.findings = [f"Of {len(outcomes)} goals {count[goals.REACHED]} are reached, "
                        f"{count[goals.MISSED]} are missed, and {count[goals.UNKNOWN]} were not "
                        "measured in this run."]
    section.findings += [f"Missed: {one.goal} is {one.measured}, {one.wanted} is wanted "
                         f"({one.note})." for one in outcomes if one.state == goals.MISSED]
    return section


def designs_section(results):
    texts = ["This report compares three ways in which a C++ coroutine can wait, over the same "
             "io_uring engine, by the same programs, each written as a follower of that design "
             "would write it. It then sets the servers of this project beside others."]
    designs = results.get("designs") or {}
    if designs.get("missing"):
        texts.append("Missing in this run: " + "; ".join(
            f"{name} ({why})" for name, why in designs["missing"].items()) + ".")
    texts.append(f"Each number is the median of its rounds, in which every design ran once, on one "
                 f"core, and another one first each time. Who needs more is told by the rounds' "
                 f"ratios, so that what the machine does to a whole round falls out: a difference "
                 f"smaller than their interquartile range is called a tie. Fewer than "
                 f"{JUDGED_FROM} rounds are not judged.")
    return Section("designs", "What is compared", texts, list(DESIGN_TEXTS.items()))


def machine_section(results):
    rows = [[name, str(value)] for name, value in results["conditions"].items()]
    return Section("machine", "The machine and the run", tables=[Table(["what", "which"], rows)],
                   commands=[results["command"]])


def summary_section(cases):
    return Section("summary", "In short", findings=findings.tally(cases) or
                   ["Only one design was there to be measured: nothing to compare."])


def absent(key, title):
    return Section(key, title, ["Not measured in this run."])


def build(results):
    """All sections, in the order in which they are read."""
    designs, servers, peers = (results.get(key) for key in ("designs", "servers", "peers"))
    cases = (designs or {}).get("cases", {})
    row = [designs_section(results)]
    if results.get("changes") is not None:
        row.append(compare.section(results["changes"]))
    row.append(summary_section(cases) if cases else absent("summary", "In short"))
    row.append(goals_section(results))
    for key, (title, _) in GROUPS.items():
        group = [case for case in cases.values() if case["group"] == key]
        row.append(group_section(key, group) if group else absent(key, title))
    row.append(code_section(designs["code"]) if designs else absent("code", "Code"))
    row.append(raw_section(servers) if servers else absent("raw", "Beside raw C"))
    row.append(peers_section(peers) if peers else absent("peers", "Beside other libraries"))
    if designs and designs.get("skipped"):
        row.append(Section("skipped", "What was left out", findings=[
            f"{what}: {why}." for what, why in designs["skipped"].items()]))
    row.append(machine_section(results))
    return row
