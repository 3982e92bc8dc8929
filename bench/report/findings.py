"""Paragraphs that say what the numbers show: who needs less, by how much, and what is a tie."""

from samples import number, ratio, share, summary, verdict

UNTOLD = 0.01  # of an operation: what was done once, to begin with
COUNT_NAMES = {"instructions": "instructions", "allocations": "allocations",
               "system_calls": "system calls"}


def beside(other, theirs, ours):
    """What another needs beside ours: "future 21.5 ns, 4.8 times as much"."""
    text = f"{other} {number(summary(theirs).median)} ns"
    by, said = ratio(theirs, ours), verdict(theirs, ours)
    if by is None:
        return text
    if said == "tie":
        return f"{text}, a tie"
    doubt = " by too few rounds to be sure" if said == "unknown" else ""
    return f"{text}, {share(by)}{doubt}"


def of_case(case):
    """The paragraph of one program, or None where no design ran it."""
    designs = {name: of for name, of in case["designs"].items() if of.get("cpu_ns")}
    if not designs:
        return None
    first = "trap" if "trap" in designs else next(iter(designs))
    ours = designs[first]["cpu_ns"]
    text = f"{case['title']}: {first} needs {number(summary(ours).median)} ns of processor time"
    others = [beside(name, of["cpu_ns"], ours) for name, of in designs.items() if name != first]
    text += "; " + ("; ".join(others) or "no other design ran it") + "."
    return text + counts_of(first, designs) + memory_of(first, designs)


def counts_of(first, designs):
    """What explains it: the counts in which designs differ."""
    said = []
    for key, name in COUNT_NAMES.items():
        values = {design: summary(of.get(key, [])) for design, of in designs.items()}
        if values[first] is None or any(value is None for value in values.values()):
            continue
        if max(value.median for value in values.values()) < UNTOLD:
            continue
        if all(verdict(designs[first][key], of[key], True) == "tie" for of in designs.values()):
            if key == "instructions":
                said.append(f"{number(values[first].median)} {name}")
            continue
        rest = ", ".join(f"{design} {number(value.median)}" for design, value in values.items()
                         if design != first)
        said.append(f"{number(values[first].median)} {name} ({rest})")
    return f" An operation takes {'; '.join(said)}." if said else ""


def memory_of(first, designs):
    values = {design: of["resident_bytes"] for design, of in designs.items()
              if of.get("resident_bytes")}
    if first not in values:
        return ""
    text = f" A waiting task occupies {number(summary(values[first]).median)} B"
    rest = [f"{number(summary(value).median)} B in {design}"
            for design, value in values.items() if design != first]
    return text + (", " + ", ".join(rest) if rest else "") + "."


def tally(cases):
    """How often trap needs less, ties, needs more, over all programs."""
    lines = []
    for other in ("future", "awaiter"):
        found = {"less": [], "tie": [], "more": [], "unknown": []}
        for case in cases.values():
            of = case["designs"]
            if of.get("trap", {}).get("cpu_ns") and of.get(other, {}).get("cpu_ns"):
                found[verdict(of["trap"]["cpu_ns"], of[other]["cpu_ns"])].append(case["title"])
        count = sum(map(len, found.values()))
        if not count:
            continue
        if len(found["unknown"]) == count:
            lines.append(f"Trap beside {other}: too few rounds to judge {count} programs.")
            continue
        text = (f"Trap beside {other}, by processor time, in {count} programs: it needs less in "
                f"{len(found['less'])}, more in {len(found['more'])}, and "
                f"{len(found['tie'])} {'is a tie' if len(found['tie']) == 1 else 'are ties'}.")
        if found["more"]:
            text += f" {other.capitalize()} is ahead in: {'; '.join(found['more'])}."
        lines.append(text)
    return lines


def of_servers(title, servers, ours="ours"):
    """One paragraph a row of servers: who needs less than ours, who ties, who needs more."""
    mine = servers.get(ours, {}).get("cpu_ns")
    if not mine:
        return f"{title}: ours was not measured."
    by_verdict = {"less": [], "tie": [], "more": [], "unknown": []}
    for name, of in servers.items():
        if name != ours and of.get("cpu_ns"):
            by_verdict[verdict(of["cpu_ns"], mine)].append((ratio(of["cpu_ns"], mine), name))
    said = [f"{title}: ours needs {number(summary(mine).median)} ns a request"]
    for key, word in (("less", "less than ours"), ("tie", "tied with it"),
                      ("more", "more than ours"), ("unknown", "of too few rounds to judge")):
        names = [name if key == "tie" else f"{name} ({by:.2f} times ours)"
                 for by, name in sorted(by_verdict[key])]
        if names:
            said.append(f"{word}: {', '.join(names)}")
    return "; ".join(said) + "."


def of_code(code):
    """What programs cost to write, compile and load."""
    said = []
    for design, of in code.items():
        text = (f"{design}: {of['lines']['all']:,} lines of user code, "
                f"{number(of['object_text'] / 1024)} KiB of machine code in the programs' object, "
                f"{number(of['program_text'] / 1024)} KiB in the whole executable")
        if of["compile_seconds"]:
            text += f", {number(summary(of['compile_seconds']).median)} s to compile"
        said.append(text)
    return "; ".join(said) + "."


def of_idle(idle):
    if "ours" not in idle:
        return "Ours was not measured."
    lower = [f"{name} ({number(value)} B)" for name, value in idle.items()
             if name != "ours" and value < idle["ours"]]
    place = f"less: {', '.join(lower)}" if lower else "nobody needs less"
    return f"A connected idle client costs ours {number(idle['ours'])} B; {place}."
