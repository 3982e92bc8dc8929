"""The report over made-up results: what is said of them, and that nothing is left out."""

import copy
import os
import random
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import codesize  # noqa: E402
import compare  # noqa: E402
import complete  # noqa: E402
import designs  # noqa: E402
import findings  # noqa: E402
import goals  # noqa: E402
import instructions  # noqa: E402
import markdown  # noqa: E402
import page  # noqa: E402
import plots  # noqa: E402
import sections  # noqa: E402
from cases import CASES, DESIGNS, EFFORTS, HTTP_KEY, ONLY_IN, echo_key  # noqa: E402
from samples import moved, number, ratio, share, summary, verdict, with_spread#noqa:E402

try:
    import matplotlib  # noqa: F401
    PLOTS = True
except ImportError:
    PLOTS = False

SPEED = {"trap": 1.0, "future": 4.0, "awaiter": 0.9}


def noisy(value, count=5):
    """A few samples, within a per cent."""
    chance = random.Random(value)
    return [value * chance.uniform(0.995, 1.005) for _ in range(count)]


def made_up_case(case, present):
    cost = 5.0 * (1 + CASES.index(case)) ** 2
    of = {design: {"cpu_ns": noisy(cost * SPEED[design]), "ns": noisy(cost * SPEED[design]),
                   "allocations": [SPEED[design] - 0.9] * 5, "allocated_bytes": [48.0] * 5,
                   "system_calls": [0.5] * 5, "instructions": [cost * 12 * SPEED[design]]}
          for design in present if ONLY_IN.get(case.program, design) == design}
    if case.program == "waiting":
        for design, samples in of.items():
            samples["resident_bytes"] = noisy(520 * SPEED[design])
    return {"group": case.group, "title": case.title, "program": case.program,
            "commands": [f"design_{design} {case.key}" for design in of], "designs": of}


def made_up_server(cpu):
    return {"cpu_ns": noisy(cpu, 9), "per_second": noisy(1e9 / cpu, 9),
            "p50_us": noisy(300, 9), "p99_us": noisy(500, 9)}


def made_up_servers():
    return {"tcp": {str(connections): {
        "ours": made_up_server(5000), "ours, receive()": made_up_server(4990),
        "raw io_uring, multishot": made_up_server(5001),
        "raw io_uring, single": made_up_server(5300), "raw epoll": made_up_server(5600)}
        for connections in (64, 512, 4096)},
        "pipelined": {"ours": made_up_server(340), "raw io_uring, multishot": made_up_server(339),
                      "raw epoll": made_up_server(345)},
        "unix": {"ours": {"cpu_ns": noisy(3540)}, "raw io_uring": {"cpu_ns": noisy(3410)}},
        "commands": ["sh bench/servers.sh tcp unix"]}


def made_up_peers():
    echo = {"ours": 5000, "raw io_uring": 5000, "raw epoll": 5600, "asio": 7100, "libuv": 6900,
            "go": 8200, "asyncio, uvloop": 14000}
    return {"echo": {"64": {name: made_up_server(cpu) for name, cpu in echo.items()}},
            "http": {"64": {"ours": made_up_server(7700), "nginx": made_up_server(8500)}},
            "idle_bytes": {"ours": 901, "libuv": 4400, "asio": 5500},
            "redis": {"64": {"redis-server": {"cpu_ns": noisy(6000)}}},
            "versions": {"libuv": "1.44.2"}, "missing": {"uvloop": "Debian: python3-uvloop"}}


def made_up(present=("trap", "future", "awaiter")):
    cases = {case.key: made_up_case(case, present) for case in CASES}
    for key, title in ((echo_key(64, 64), "echo 64 B, 64 clients"), (HTTP_KEY, "http, 64 clients")):
        cases[key] = {"group": "servers", "title": title, "program": key.split(" ")[0].strip(","),
                      "commands": ["server"], "designs": {
                          design: made_up_server(5000 * SPEED[design]) for design in present}}
    skipped = {}
    for case in CASES:
        if not cases[case.key]["designs"]:
            del cases[case.key]
            skipped[case.title] = "only in another design, which is missing"
    code = {design: {"lines": {"switch": 20, "all": 250}, "object_text": 60_000,
                     "program_text": 350_000, "compile_seconds": noisy(6, 3),
                     "compile_command": "clang++-19 -c programs.cpp"} for design in present}
    return {"version": 1, "mode": "quick", "command": "sh bench/run.sh",
            "conditions": {"processor": "made up", "processors": 2, "linux": "6.18",
                           "compiler": "clang 19", "date": "2026-11-22T05:00+00:00",
                           "commit": "0000000"},
            "designs": {"present": list(present), "missing": {
                design: "not in this build" for design in DESIGNS if design not in present},
                "cases": cases, "skipped": skipped, "counted_by": "callgrind", "code": code},
            "servers": made_up_servers(), "peers": made_up_peers(), "changes": None}


def written(results, draw=lambda plot: "<svg></svg>"):
    built = sections.build(results)
    drawn = {plot.name: draw(plot) for section in built for plot in section.plots}
    return (page.build("Title", "under", built, drawn),
            markdown.build("Title", "under", built), built)


def goal(results, beginning):
    return next(one for one in goals.outcomes(results) if one.goal.startswith(beginning))


class Samples(unittest.TestCase):
    def test_a_difference_below_the_spread_is_a_tie(self):
        self.assertEqual(verdict([10, 11, 12], [10.5, 10.5, 12.5]), "tie")
        self.assertEqual(verdict([10, 10.1, 10.2], [11, 11.1, 11.2]), "less")
        self.assertEqual(verdict([11, 11.1, 11.2], [10, 10.1, 10.2]), "more")

    def test_what_the_machine_does_to_a_whole_round_falls_out(self):
        ours, theirs = [350, 356, 470, 466, 472], [343, 347, 459, 455, 460]
        self.assertEqual(verdict(ours, theirs), "more")
        self.assertAlmostEqual(ratio(ours, theirs), 1.024, 3)
        self.assertEqual(moved(ours, theirs), "tie")

    def test_without_rounds_in_common_the_larger_spread_of_both_decides(self):
        self.assertEqual(moved([10, 11, 12], [10.5, 11.5, 12.5]), "tie")
        self.assertEqual(moved([10, 10, 10], [8, 11, 14]), "tie")
        self.assertEqual(verdict([8, 11, 14], [10, 10, 10, 10]), "tie")

    def test_equal_medians_without_spread_are_a_tie(self):
        self.assertEqual(verdict([5, 5, 5], [5, 5, 5]), "tie")

    def test_fewer_than_three_samples_are_not_judged_unless_steady(self):
        self.assertEqual(verdict([1, 1], [2, 2]), "unknown")
        self.assertEqual(verdict([], [2, 2, 2]), "unknown")
        self.assertEqual(verdict([1], [2], steady=True), "less")
        self.assertEqual(verdict([1000], [1005], steady=True), "tie")

    def test_numbers_have_three_digits_that_count(self):
        for value, text in ((4.4233, "4.42"), (39.12, "39.1"), (5006.7, "5,007"), (0, "0"),
                            (9.999, "10.0"), (0.05, "0.05"), (None, "–")):
            self.assertEqual(number(value), text)
        self.assertEqual(with_spread([10, 11, 12]), "11.0 ±0.5")
        self.assertEqual(with_spread(None), "–")

    def test_shares_are_said_as_people_say_them(self):
        self.assertEqual(share(0.93), "7 % less")
        self.assertEqual(share(1.12), "12 % more")
        self.assertEqual(share(4.83), "4.8 times as much")

    def test_quartiles(self):
        of = summary([1, 2, 3, 4, 5])
        self.assertEqual((of.low, of.median, of.high), (2, 3, 4))


class Findings(unittest.TestCase):
    def case(self, **cpu):
        return {"title": "switch", "designs": {name: {"cpu_ns": of} for name, of in cpu.items()}}

    def test_ties_are_called_ties(self):
        text = findings.of_case(self.case(trap=[10, 11, 12], awaiter=[10, 11.2, 12]))
        self.assertIn("awaiter 11.2 ns, a tie", text)

    def test_it_is_said_where_trap_is_behind(self):
        text = findings.of_case(self.case(trap=[10, 10, 10], awaiter=[8, 8, 8]))
        self.assertIn("awaiter 8.00 ns, 20 % less", text)
        lines = findings.tally({"switch": self.case(trap=[10, 10, 10], awaiter=[8, 8, 8])})
        self.assertIn("Awaiter is ahead in: switch", lines[0])

    def test_few_rounds_are_not_trusted(self):
        text = findings.of_case(self.case(trap=[10], awaiter=[8]))
        self.assertIn("by too few rounds to be sure", text)


class Goals(unittest.TestCase):
    def test_a_goal_that_is_missed_says_by_how_much(self):
        results = made_up()
        results["designs"]["cases"]["spawn_join"]["designs"]["awaiter"]["cpu_ns"] = [80, 80, 80]
        results["designs"]["cases"]["spawn_join"]["designs"]["trap"]["cpu_ns"] = [100, 100, 100]
        one = goal(results, "spawn + join: trap / awaiter")
        self.assertEqual((one.state, one.note), (goals.MISSED, "missed by 25.0 %"))
        self.assertIn("missed by 25.0 %", written(results)[0])

    def test_reached_goals_and_ties_within_the_spread(self):
        results = made_up()
        self.assertEqual(goal(results, "switch, 1 task: trap / future").state, goals.REACHED)
        tcp = results["servers"]["tcp"]["64"]
        tcp["ours"]["cpu_ns"] = [4900, 5010, 5150]
        tcp["raw io_uring, multishot"]["cpu_ns"] = [4950, 5000, 5000]
        one = goal(results, "echo, 64 connections: ours / raw C on io_uring")
        self.assertEqual(one.state, goals.REACHED)
        self.assertIn("a tie", one.note)

    def test_the_better_raw_server_is_the_one_to_beat(self):
        results = made_up()
        tcp = results["servers"]["tcp"]["64"]
        tcp["raw io_uring, single"]["cpu_ns"] = [4000, 4000, 4000]
        one = goal(results, "echo, 64 connections: ours / raw C on io_uring")
        self.assertEqual(one.state, goals.MISSED)

    def test_a_peer_that_ties_is_not_behind(self):
        results = made_up()
        results["peers"]["echo"]["64"]["ours, recv()"] = made_up_server(4000)
        self.assertEqual(goal(results, "echo, 64 connections: ahead").state, goals.REACHED)
        echo = results["peers"]["echo"]["64"]
        echo["asio"]["cpu_ns"] = list(echo["ours"]["cpu_ns"])
        one = goal(results, "echo, 64 connections: ahead")
        self.assertEqual(one.state, goals.MISSED)
        self.assertIn("asio, a tie", one.note)

    def test_what_was_not_measured_is_not_reached(self):
        results = made_up(("trap",))
        results["servers"] = results["peers"] = None
        states = {one.state for one in goals.outcomes(results)}
        self.assertEqual(states, {goals.UNKNOWN})


class Page(unittest.TestCase):
    def assert_whole(self, results):
        html, text, built = written(results)
        self.assertEqual(list(complete.page_problems(html, text, built)), [])
        return html, text

    def test_it_has_every_part(self):
        results = made_up()
        html, text = self.assert_whole(results)
        self.assertEqual(list(complete.problems(results, EFFORTS["smoke"],
                                                ["designs", "servers", "peers"])), [])
        for case in CASES:
            self.assertIn(f">{case.title}</td>", html)
            self.assertIn(f"| {case.title} |", text)

    def test_a_missing_design_is_told(self):
        html, text = self.assert_whole(made_up(("trap",)))
        self.assertIn("Missing in this run: future (not in this build)", html)
        self.assertIn("no other design ran it", text)

    def test_missing_peers_are_told(self):
        results = made_up()
        results["peers"] = None
        html, _ = self.assert_whole(results)
        self.assertIn("Not measured in this run.", html)
        html, _ = self.assert_whole(made_up())
        self.assertIn("uvloop (Debian: python3-uvloop)", html)

    def test_a_part_that_lacks_is_found(self):
        results = made_up()
        del results["designs"]["cases"]["queue"]
        results["designs"]["cases"]["pipe"]["designs"]["future"]["cpu_ns"] = [float("nan")]
        del results["servers"]["tcp"]["512"]["ours"]
        found = list(complete.problems(results, EFFORTS["full"], ["designs", "servers"]))
        self.assertEqual(len(found), 3, found)
        html, text, built = written(made_up())
        found = list(complete.page_problems(html.replace('<section id="goals">', ""), text, built))
        self.assertEqual(found, ["the page lacks the section goals"])

    def test_text_cannot_break_the_page(self):
        results = made_up()
        results["peers"]["missing"] = {"<script>": "a & b"}
        self.assertIn("&lt;script&gt; (a &amp; b)", self.assert_whole(results)[0])

    @unittest.skipUnless(PLOTS, "matplotlib is not installed")
    def test_plots_take_the_colours_of_the_page(self):
        html, text, built = written(made_up(), plots.draw)
        self.assertEqual(list(complete.page_problems(html, text, built)), [])
        drawn = html[html.index("<body>"):]
        self.assertIn("var(--awaiter)", drawn)
        self.assertNotRegex(drawn, r"#[0-9a-f]{6}\b")
        ids = [part.split('"')[0] for part in drawn.split(' id="')[1:]]
        self.assertEqual(len(ids), len(set(ids)))


class Compare(unittest.TestCase):
    def test_the_same_run_has_not_changed(self):
        self.assertEqual(compare.changes(made_up(), made_up())["rows"], [])

    def test_what_moved_beyond_the_spread_is_told(self):
        old, new = made_up(), made_up()
        queue = new["designs"]["cases"]["queue"]["designs"]["trap"]
        queue["cpu_ns"] = [value / 2 for value in queue["cpu_ns"]]
        new["designs"]["code"]["future"]["lines"]["all"] = 300
        new["servers"]["tcp"]["64"]["ours"]["per_second"] = noisy(150_000)
        new["peers"]["idle_bytes"]["ours"] = 690
        new["designs"]["cases"]["pipe"]["designs"]["trap"]["system_calls"] = [0.505] * 5
        old["designs"]["cases"][HTTP_KEY]["designs"]["trap"]["system_calls"] = [0.28]
        new["designs"]["cases"][HTTP_KEY]["designs"]["trap"]["system_calls"] = [0.36]
        of = compare.changes(old, new)
        moved = {(row[0], row[1], row[2], row[5]) for row in of["rows"]}
        self.assertEqual(moved, {("queue, hand-over", "trap", "cpu_ns", "better"),
                                 ("code", "future", "lines", "worse"),
                                 ("TCP echo, 64 connections", "ours", "per_second", "worse"),
                                 ("idle client", "ours", "idle_bytes", "better")})
        self.assertIn("queue, hand-over", compare.told(of))
        new["changes"] = of
        html, text, _ = written(new)
        self.assertIn("What changed", html)
        self.assertIn("What changed", text)

    def test_other_conditions_and_missing_parts_are_told(self):
        old, new = made_up(), made_up(("trap", "future"))
        new["conditions"]["compiler"] = "g++ 14"
        of = compare.changes(old, new)
        self.assertIn("compiler: clang 19 before, g++ 14 now", of["conditions"])
        self.assertGreater(of["gone"], 0)


class Measuring(unittest.TestCase):
    def test_nobody_is_always_the_first(self):
        order = [name for _, name in designs.in_turns(["a", "b", "c"], 3)]
        self.assertEqual(order, list("abcbcacab"))

    def test_lines_of_code_stand_below_their_mark(self):
        lines = codesize.code_lines("#include <a>\n// --- one\n\n// why\nint f();\n"
                                    "/* long\n comment */ int g();\n// --- two\nint h(); // it\n"
                                    "} // namespace\nint main();\n")
        self.assertEqual(lines, {"all": 6, "one": 2, "two": 1})

    def test_operations_are_whole_for_each_task(self):
        case = next(case for case in CASES if "tasks=10000" in case.numbers and case.operations)
        for part in (2.0, 0.2, 0.0001):
            words = dict(word.split("=") for word in case.arguments(part)[1:])
            self.assertEqual(int(words["operations"]) % 10_000, 0)
            self.assertGreater(int(words["operations"]), 0)

    def test_a_program_that_fails_fails_the_run(self):
        with tempfile.TemporaryDirectory() as work:
            program = os.path.join(work, "design_trap")
            with open(program, "w", encoding="ascii") as file:
                file.write("#!/bin/sh\necho broken >&2\nexit 3\n")
            os.chmod(program, 0o755)
            with self.assertRaisesRegex(designs.Failed, "ended with 3: broken"):
                designs.result_of([program])
            with self.assertRaisesRegex(designs.Failed, "does not tell its programs"):
                designs.programs_of(program)
            counter = instructions.Callgrind()
            with counter.folder, self.assertRaises(instructions.NotCounted):
                counter.count(program, CASES[0])

    def test_results_are_left_as_they_were(self):
        results = made_up()
        before = copy.deepcopy(results)
        written(results)
        self.assertEqual(results, before)


if __name__ == "__main__":
    unittest.main()
