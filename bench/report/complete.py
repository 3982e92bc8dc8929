"""What a report must have. A run whose report lacks any of it has failed."""

import math

import sections
from cases import CASES, DESIGNS, ONLY_IN

ALWAYS = ["designs", "summary", "goals", *sections.GROUPS, "code", "raw", "peers", "machine"]


def bad_number(values):
    return not values or any(not math.isfinite(value) or value <= 0 for value in values)


def counted(case, effort):
    """What a smoke counts must be counted; else there may be reasons, and the report has them."""
    return effort.counted is not None and case["program"] in effort.counted


def design_problems(designs, effort):
    cases = designs["cases"]
    for design in DESIGNS:
        if design not in designs["present"]:
            yield f"{design} is not built"
    for case in CASES:
        if case.program in ONLY_IN and case.title in designs["skipped"]:
            continue
        if case.key not in cases:
            yield f"{case.title} was not measured"
    for case in cases.values():
        for design in designs["present"]:
            of = case["designs"].get(design)
            if of is None:
                if ONLY_IN.get(case["program"], design) == design:
                    yield f"{case['title']} was not measured in {design}"
            elif bad_number(of.get("cpu_ns")):
                yield f"{case['title']} in {design} has no processor time"
            elif counted(case, effort) and bad_number(of.get("instructions")):
                yield f"{case['title']} in {design} has no instructions counted"
    for kind in ("echo", "http"):
        if not any(case["program"] == kind for case in cases.values()):
            yield f"{kind} was not measured in the designs"
    for design in designs["present"]:
        if design not in designs["code"]:
            yield f"nothing is known of the code of {design}"
        elif effort.compilations and bad_number(designs["code"][design]["compile_seconds"]):
            yield f"the programs of {design} were not compiled"


def server_problems(servers, effort):
    for connections in effort.connections:
        of = servers["tcp"].get(str(connections), {})
        for name in ("ours", "raw epoll"):
            if bad_number(of.get(name, {}).get("cpu_ns")):
                yield f"{name} was not measured at {connections} connections"
        if not any(name.startswith("raw io_uring") for name in of):
            yield f"raw io_uring was not measured at {connections} connections"
    if bad_number(servers["pipelined"].get("ours", {}).get("cpu_ns")):
        yield "ours was not measured with several requests in flight"
    for name in ("ours", "raw io_uring"):
        if bad_number(servers["unix"].get(name, {}).get("cpu_ns")):
            yield f"{name} was not measured over socket pairs"


def peer_problems(peers):
    for kind in ("echo", "http"):
        if not peers.get(kind):
            yield f"no peer was measured by {kind}"
            continue
        if kind == "http" and not any("ours" in of for of in peers[kind].values()):
            continue  # without llhttp there is none of ours
        for connections, of in peers.get(kind, {}).items():
            if bad_number(of.get("ours", {}).get("cpu_ns")):
                yield f"ours was not measured by {kind} at {connections} connections"
    if "ours" not in peers.get("idle_bytes", {}):
        yield "the memory of an idle client was not measured"


def problems(results, effort, wanted):
    """Of the results, of those parts that were wanted."""
    if "designs" in wanted:
        yield from design_problems(results["designs"], effort)
    if "servers" in wanted:
        yield from server_problems(results["servers"], effort)
    if "peers" in wanted and results.get("peers") is not None:
        yield from peer_problems(results["peers"])


def page_problems(page, text, built):
    """Of the page and the Markdown file."""
    keys = {section.key for section in built}
    for key in ALWAYS:
        if key not in keys:
            yield f"there is no section {key}"
    for section in built:
        if f'<section id="{section.key}">' not in page:
            yield f"the page lacks the section {section.key}"
        if f"## {section.title}" not in text:
            yield f"report.md lacks the section {section.title}"
        for plot in section.plots:
            if f'id="plot-{plot.name}"' not in page or "<svg" not in page:
                yield f"the page lacks the plot {plot.name}"
    for word in ("<script", "src=", "@import", "url(http"):
        if word in page:
            yield f"the page needs something from elsewhere: {word}"
