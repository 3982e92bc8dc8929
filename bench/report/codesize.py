"""What a design's programs are to write, to compile and to load: lines, seconds, bytes."""

import json
import os
import re
import resource
import shlex
import subprocess
import tempfile

MARK = re.compile(r"// --- (\w+)")


def code_lines(text):
    """Lines of code by the `// --- NAME` mark they stand below; "all" is the whole file."""
    lines, name, inside = {"all": 0}, None, False
    for line in text.splitlines():
        if mark := MARK.match(line.strip()):
            name = mark[1]
            lines.setdefault(name, 0)
            continue
        code, inside = without_comments(line, inside)
        if not code.strip():
            continue
        lines["all"] += 1
        if line.startswith(("constexpr designs::Program", "} // namespace")):
            name = None  # the table of programs belongs to none
        if name:
            lines[name] += 1
    return lines


def without_comments(line, inside):
    """What is left of a line, and whether a /* goes on."""
    if inside:
        _, ended, line = line.partition("*/")
        if not ended:
            return "", True
    line = re.sub(r"/\*.*?\*/", "", line)
    if "/*" in line:
        return line.split("/*")[0], True
    return re.sub(r"^\s*//.*", "", line), False


def text_bytes(path):
    """Bytes of machine code: of all sections that are called .text or begin so."""
    done = subprocess.run(["size", "-A", path], capture_output=True, text=True, check=True)
    fields = [line.split() for line in done.stdout.splitlines()]
    return sum(int(field[1]) for field in fields
               if len(field) == 3 and (field[0] + ".").startswith(".text."))


def command_of(build, design):
    """The compiler's command line for the programs, or None."""
    with open(f"{build}/compile_commands.json", encoding="utf-8") as file:
        for entry in json.load(file):
            if entry["file"].endswith(f"designs/{design}/programs.cpp"):
                return entry
    return None


def compile_seconds(entry, times):
    """The processor's seconds of each compilation."""
    seconds = []
    with tempfile.TemporaryDirectory() as work:
        words = shlex.split(entry["command"])
        words[words.index("-o") + 1] = f"{work}/programs.o"
        if "-MF" in words:
            words[words.index("-MF") + 1] = f"{work}/programs.d"
        for _ in range(times):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(words, cwd=entry["directory"], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return seconds


def measure(build, design, compilations):
    entry = command_of(build, design)
    if entry is None:
        raise SystemExit(f"{build}/compile_commands.json has no designs/{design}/programs.cpp")
    source = os.path.join(entry["directory"], entry["file"])
    with open(source, encoding="utf-8") as file:
        lines = code_lines(file.read())
    return {
        "lines": lines,
        "object_text": text_bytes(os.path.join(entry["directory"], entry["output"])),
        "program_text": text_bytes(f"{build}/bench/designs/design_{design}"),
        "compile_seconds": compile_seconds(entry, compilations),
        "compile_command": f"cd {entry['directory']} && {entry['command']}",
    }
