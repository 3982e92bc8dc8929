"""Runs the programs of ../designs in each design there is, in turns, and counts what they need."""

import json
import os
import re
import subprocess

import codesize
import instructions
from cases import CASES, DESIGNS, ONLY_IN

CORE = 0
PER_OPERATION = ["ns", "cpu_ns", "allocations", "allocated_bytes", "system_calls"]


class Failed(Exception):
    """A program that did not end well."""


def program_of(build, design):
    return f"{build}/bench/designs/design_{design}"


def designs_of(build):
    """Those that were built, and why the others are missing."""
    present = [design for design in DESIGNS if os.access(program_of(build, design), os.X_OK)]
    missing = {design: "not in this build" for design in DESIGNS if design not in present}
    if not present:
        raise Failed(f"{build}/bench/designs has no design")
    return present, missing


def programs_of(program):
    """The names a design's executable knows, which it tells when it is asked for none."""
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    _, found, names = done.stderr.partition("of these:")
    if not found:
        raise Failed(f"{program} does not tell its programs: {done.stderr.strip()}")
    return set(names.split())


def shown(command):
    """As it is typed from the checkout."""
    return " ".join(os.path.relpath(word) if os.path.isabs(word) else word for word in command)


def result_of(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not found:
        raise Failed(f"{shown(command)} ended with {done.returncode}: {done.stderr.strip()}")
    result = json.loads(found[1])
    if result["operations"] <= 0:
        raise Failed(f"{shown(command)} did nothing")
    return result


def sample_of(result, program):
    """What one operation needed."""
    sample = {key: result[key] / result["operations"] for key in PER_OPERATION}
    if program == "waiting":
        sample["resident_bytes"] = result["resident_bytes"] / result["operations"]
    return sample


def in_turns(names, rounds):
    """(round, name) in the order of measuring: nobody is always the first."""
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            yield turn, name


class Designs:
    """The designs that were built, and what they can run."""

    def __init__(self, build, effort, progress):
        self.build, self.effort, self.progress = build, effort, progress
        self.present, self.missing = designs_of(build)
        self.programs = {design: programs_of(program_of(build, design))
                         for design in self.present}

    def able(self, case):
        """The designs that are to run it. A program that should be there and is not fails."""
        expected = [design for design in self.present
                    if ONLY_IN.get(case.program, design) == design]
        able = [design for design in expected if case.program in self.programs[design]]
        if case.program not in ONLY_IN and able != expected:
            lacking = sorted(set(expected) - set(able))
            raise Failed(f"no program {case.program} in: {', '.join(lacking)}")
        return able

    def command(self, design, case):
        return ["taskset", "-c", str(CORE), program_of(self.build, design),
                *case.arguments(self.effort.share)]

    def measure_case(self, case):
        designs = self.able(case)
        samples = {design: {} for design in designs}
        for _, design in in_turns(designs, self.effort.rounds) if designs else ():
            result = result_of(self.command(design, case))
            for key, value in sample_of(result, case.program).items():
                samples[design].setdefault(key, []).append(value)
        return {"group": case.group, "title": case.title, "program": case.program,
                "commands": [shown(self.command(design, case)) for design in designs],
                "designs": samples}

    def count_instructions(self, cases, skipped):
        """Adds to the measured cases. What cannot be counted is told with its reason."""
        counter = instructions.counter()
        for case in CASES:
            wanted = self.effort.counted is None or case.program in self.effort.counted
            if not wanted or case.key not in cases:
                continue
            self.progress(f"instructions of {case.title}, by {counter.name}")
            for design in self.able(case):
                program = program_of(self.build, design)
                try:
                    count = counter.count(program, case)
                except instructions.NotCounted as reason:
                    skipped[f"{case.title} in {design}"] = str(reason)
                else:
                    cases[case.key]["designs"][design]["instructions"] = [count]
                    cases[case.key]["commands"].append(shown(counter.command(program, case)))
        return counter.name

    def measure(self):
        cases, skipped = {}, {}
        for case in CASES:
            if not self.able(case):
                skipped[case.title] = f"only in {ONLY_IN[case.program]}, which is missing"
                continue
            self.progress(f"{case.title}, {self.effort.rounds} rounds")
            cases[case.key] = self.measure_case(case)
        counted_by = self.count_instructions(cases, skipped)
        sizes = {}
        for design in self.present:
            self.progress(f"size of {design}, {self.effort.compilations} compilations")
            sizes[design] = codesize.measure(self.build, design, self.effort.compilations)
        return {"present": self.present, "missing": self.missing, "cases": cases,
                "skipped": skipped, "counted_by": counted_by, "code": sizes}
