"""Prints a table of Google Benchmark results: each case beside its floor (NAME_floor)."""
import json
import statistics
import sys

GOALS = {
    "yield": "1.25", "spawn_join": "1.5", "sleepers": "1.0", "timer_queue": "1.0",
    "policy": "+3 ns", "limit_by_time": "30 ns", "virtual_sleeps": "200 ns",
    "lock": "3 ns", "lock_hold": "3 ns", "semaphore": "3 ns",
    "semaphore_hold": "3 ns", "group_of_1000": "1.3", "hand_over_queue": "2.5", "hand_over_channel": "2.5",
}


def load(paths):
    times, wakeups, context = {}, {}, None
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if not text:  # the filter left nothing of this program
            continue
        result = json.loads(text)
        context = context or result["context"]
        for run in result["benchmarks"]:
            if run["run_type"] == "iteration":
                name = run["name"].split("/repeats:")[0].replace("/real_time", "")
                times.setdefault(name, []).append(1e9 / run["items_per_second"])
                if "wakeups" in run:
                    wakeups.setdefault(name, []).append(run["wakeups"])
    return times, wakeups, context


def main():
    times, wakeups, context = load(sys.argv[1:])
    if not times:
        sys.exit("no benchmark of that name")
    print(f"{context['num_cpus']} x {context['mhz_per_cpu']} MHz, {context['date']}")
    print(f"{'case':34}{'ns':>9}{'spread':>9}{'floor ns':>10}{'spread':>9}{'ratio':>8}{'best':>8}"
          f"{'goal':>8}")

    def spread(values):
        return f"{100 * (max(values) - min(values)) / statistics.median(values):.0f} %"

    for name, values in times.items():
        family, _, arguments = name.partition("/")
        if family.endswith("_floor"):
            continue
        floor_name = f"{family}_floor/{arguments}" if arguments else f"{family}_floor"
        floor = times.get(floor_name)
        median = statistics.median(values)
        line = f"{name:34}{median:9.1f}{spread(values):>9}"
        if floor:
            floor_median = statistics.median(floor)
            line += (f"{floor_median:10.1f}{spread(floor):>9}{median / floor_median:8.2f}"
                     f"{min(values) / min(floor):8.2f}")
        else:
            line += " " * 35
        line += f"{GOALS.get(family, ''):>8}"
        if name in wakeups:
            line += (f"  {statistics.median(wakeups[name]):,.0f} wake-ups,"
                     f" floor {statistics.median(wakeups[floor_name]):,.0f}")
        print(line)


main()
