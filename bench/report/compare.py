"""What changed between two results.json: every median that moved by more than the spread."""

from parts import Section, Table
from samples import JUDGED_FROM, moved, number, share, summary

# Exact counts and sizes: one value is enough to judge.
STEADY = {"instructions", "allocations", "allocated_bytes", "system_calls", "object_text",
          "program_text", "lines", "idle_bytes"}
LEAST = {"allocations": 0.01, "system_calls": 0.01, "allocated_bytes": 1}  # that is a change
OF_THE_RUN = {"date", "rounds", "took"}  # conditions that never are the same
BETTER_IF_MORE = {"per_second"}
IGNORED = {"ns", "busy_percent", "waited_percent", "stolen_percent"}  # what else the machine does


def flat(results):
    """{(what, who, measure): samples} of all that can be compared."""
    found = {}
    designs = results.get("designs") or {}
    for case in designs.get("cases", {}).values():
        # What a server counts depends on how its load's requests meet: one value says nothing.
        steady = case["group"] != "servers"
        add(found, case["title"], {design: {measure: values for measure, values in of.items()
                                            if steady or len(values) >= JUDGED_FROM}
                                   for design, of in case["designs"].items()})
    for design, of in designs.get("code", {}).items():
        for key in ("object_text", "program_text"):
            found["code", design, key] = [of[key]]
        found["code", design, "lines"] = [of["lines"]["all"]]
        found["code", design, "compile_seconds"] = of["compile_seconds"]
    servers = results.get("servers") or {}
    for connections, of in servers.get("tcp", {}).items():
        add(found, f"TCP echo, {connections} connections", of)
    add(found, "TCP echo, pipelined", servers.get("pipelined", {}))
    add(found, "echo over socket pairs", servers.get("unix", {}))
    peers = results.get("peers") or {}
    for kind in ("echo", "http"):
        for connections, of in peers.get(kind, {}).items():
            add(found, f"{kind} of peers, {connections} connections", of)
    for name, value in peers.get("idle_bytes", {}).items():
        found["idle client", name, "idle_bytes"] = [value]
    return {key: values for key, values in found.items() if values}


def add(found, what, by_name):
    for name, of in by_name.items():
        for measure, values in of.items():
            if measure not in IGNORED:
                found[what, name, measure] = values


def changes(old, new):
    """What moved, what cannot be judged, and what stands on one side only."""
    before, after = flat(old), flat(new)
    rows, unknown = [], 0
    for key in after:
        if key not in before:
            continue
        said = moved(after[key], before[key], key[2] in STEADY)
        unknown += said == "unknown"
        was, now = summary(before[key]).median, summary(after[key]).median
        if said in ("less", "more") and abs(now - was) >= LEAST.get(key[2], 0):
            rows.append([*key, was, now,
                         "better" if (said == "more") == (key[2] in BETTER_IF_MORE) else "worse"])
    conditions = [f"{name}: {old['conditions'].get(name)} before, {value} now"
                  for name, value in new["conditions"].items()
                  if name not in OF_THE_RUN and old["conditions"].get(name) != value]
    if old.get("mode") != new.get("mode"):
        conditions.append(f"mode: {old.get('mode')} before, {new.get('mode')} now")
    return {"rows": rows, "unknown": unknown, "compared": len(before.keys() & after.keys()),
            "gone": len(before.keys() - after.keys()), "added": len(after.keys() - before.keys()),
            "conditions": conditions, "date": old["conditions"].get("date", "unknown")}


def difference(before, after):
    return share(after / before) if before else f"from 0 to {number(after)}"


def section(of):
    count = len(of["rows"])
    texts = [f"Beside the run of {of['date']}: of {of['compared']} numbers, {count} moved by more "
             f"than the spread, {of['unknown']} have too few rounds to judge. {of['added']} are "
             f"new and {of['gone']} are gone."]
    if of["conditions"]:
        texts.append("Not the same conditions: " + "; ".join(of["conditions"]) + ".")
    table = Table(["what", "who", "measure", "before", "now", "change", ""], [
        [what, who, measure, number(before), number(after), difference(before, after), said]
        for what, who, measure, before, after, said in of["rows"]])
    return Section("changes", "What changed", texts, tables=[table] if count else [])


def told(of):
    """For the terminal."""
    shown = section(of)
    lines = [*shown.texts]
    for table in shown.tables:
        rows = [table.columns, *table.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                  for row in rows]
    return "\n".join(lines)
