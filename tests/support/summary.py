"""Counts what Meson's testlog.json tells: doctest cases one by one, every other program as one.

Prints how programs failed, why others skipped, then `N passed, N failed`, with `, N skipped` if
there are some. Fails if a test did, or none ran.
"""

import json
import os
import re
import sys

CASES = re.compile(r"test cases: +\d+ \| +(\d+) passed \| +(\d+) failed \| +(\d+) skipped")

# How much of a failed program's last words is shown.
LINES = 40

passed = failed = skipped = 0
log = sys.argv[1]
for line in open(log) if os.path.exists(log) else []:
    program = json.loads(line)
    cases = [[int(n) for n in found] for found in CASES.findall(program["stdout"] or "")]
    passed += sum(case[0] for case in cases)
    failed_cases = sum(case[1] for case in cases)
    skipped += sum(case[2] for case in cases)

    # A program can also fail beside its cases: it crashed, leaked, or took too long.
    if program["result"] not in ("OK", "SKIP"):
        failed += max(failed_cases, 1)
        words = (program["stdout"] or "") + (program.get("stderr") or "")
        print(f"{program['name']}: {program['result']}, exit status {program['returncode']}")
        print(*(f"  | {line}" for line in words.splitlines()[-LINES:]), sep="\n")
    elif not cases:
        if program["result"] == "OK":
            passed += 1
        else:
            skipped += 1
            print(f"{program['name']} skipped: {(program['stdout'] or 'no reason given').strip()}")

print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(failed > 0 or passed == 0)
