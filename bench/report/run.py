"""Measures, and writes the report; see ../run.sh."""

import argparse
import json
import os
import shlex
import sys
import time

import compare
import complete
import designs
import markdown
import page
import plots
import sections
import servers
from cases import EFFORTS

PARTS = ["designs", "servers", "peers"]
TITLE = "Trap, future, awaiter: three designs compared, and the peers beside us"


class Progress:
    """What is being measured, and since when."""

    def __init__(self):
        self.began = time.monotonic()

    def __call__(self, text):
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def measure(build, effort, wanted, progress):
    servers.files_max()
    results = {"version": 1, "mode": effort.name, "designs": None, "servers": None,
               "peers": None, "conditions": servers.conditions(build)}
    counts = {"repeated": 0, "disturbed": 0, "repeated_max": effort.repeated_max}
    if "designs" in wanted:
        of = designs.Designs(build, effort, progress)
        results["designs"] = of.measure()
        results["designs"]["cases"].update(
            servers.in_designs(build, of.present, effort, counts, progress))
    if "servers" in wanted:
        results["servers"] = servers.beside_raw(build, effort, counts, progress)
    if "peers" in wanted:
        progress("peers")
        results["peers"] = servers.beside_peers(build, effort, progress)
        for what in ("repeated", "disturbed"):
            counts[what] += (results["peers"] or {}).get("rounds", {}).get(what, 0)
    results["conditions"]["rounds"] = (
        f"{counts['repeated']} were disturbed and repeated, {counts['disturbed']} stayed "
        "disturbed")
    results["conditions"]["took"] = f"{time.monotonic() - progress.began:.0f} s"
    return results


def under(results):
    of = results["conditions"]
    return (f"A {results['mode']} run of {of['date']} on {of['processors']} × "
            f"{of['processor']}, Linux {of['linux']}, {of['compiler']}, commit {of['commit']}.")


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def write_report(folder, results):
    """Writes all files. Answers what is wrong with them."""
    os.makedirs(folder, exist_ok=True)
    write(folder, "results.json", json.dumps(results, indent=1) + "\n")
    built = sections.build(results)
    drawn = {plot.name: plots.draw(plot) for section in built for plot in section.plots}
    for name, svg in drawn.items():
        write(folder, f"{name}.svg", plots.alone(svg))
    html = page.build(TITLE, under(results), built, drawn)
    text = markdown.build(TITLE, under(results), built)
    write(folder, "index.html", html)
    write(folder, "report.md", text)
    return list(complete.page_problems(html, text, built))


def read_old(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as failure:
        sys.exit(f"--compare {path}: {failure}")


def parse():
    parser = argparse.ArgumentParser(prog="run.sh", description="Measures and reports.")
    parser.add_argument("--build", default="build", help="build folder")
    parser.add_argument("--full", action="store_true", help="more rounds, all sizes")
    parser.add_argument("--smoke", action="store_true", help="the least of everything, for CI")
    parser.add_argument("--compare", metavar="OLD.json", help="tell what changed since")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure that part alone")
    parser.add_argument("--again", metavar="RESULTS.json",
                        help="measure nothing: write the report of results there are")
    arguments = parser.parse_args()
    if arguments.full and arguments.smoke:
        parser.error("--full and --smoke: one of them")
    return arguments


def command_line():
    """As it was typed, without the build folder that run.sh adds."""
    words = [word for i, word in enumerate(sys.argv[1:], 1)
             if word != "--build" and sys.argv[i - 1] != "--build"]
    return shlex.join(["sh", "bench/run.sh", *words])


def main():
    arguments = parse()
    old = read_old(arguments.compare) if arguments.compare else None
    mode = "full" if arguments.full else "smoke" if arguments.smoke else "quick"
    wanted = arguments.only or PARTS
    folder = os.path.join(arguments.build, "report")
    wrong = []
    if arguments.again:
        results = read_old(arguments.again)
    else:
        try:
            results = measure(arguments.build, EFFORTS[mode], wanted, Progress())
        except designs.Failed as failure:
            sys.exit(f"run.sh: {failure}")
        results["command"] = command_line()
        wrong = list(complete.problems(results, EFFORTS[mode], wanted))
    results["changes"] = compare.changes(old, results) if old else None
    wrong += write_report(folder, results)
    if old:
        print(compare.told(results["changes"]))
    print(f"{folder}/index.html, report.md, results.json")
    if wrong:
        sys.exit("run.sh: the report is incomplete: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
