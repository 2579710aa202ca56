#!/usr/bin/env python3
"""Runs the examples of a document and compares what they print with what the document shows.

    .ci/readme.py README.md            # in order, against a running stack; exit code 1 if one differs
    .ci/readme.py --write README.md    # puts the real output into the document instead

An example is a line `$ command` in a block marked `console`, with its output below. What differs from run to run (ids,
times, hashes, counts) is compared by shape. A block marked `diff` shows lines of the `diff` command above it.
"""

import re
import subprocess
import sys

SHAPES = [
    (r"(pay|job|txn)_[0-9a-f]{12,}", r"\1_ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r'"timestamp":\d+(\.\d+)?', '"timestamp":T'),
    (r'"((?:user_|order_)?id|count|iterations|version)":\d+', r'"\1":N'),
    (r'"(\w+_seconds)":\d+(\.\d+)?(e-?\d+)?', r'"\1":S'),
]


def shape(text):
    for pattern, name in SHAPES:
        text = re.sub(pattern, name, text)
    return text.strip()


def wrong_in_diffs(text):
    """Lines of `diff` blocks that are not in what the command before the block prints."""
    for command, block in re.findall(r"\n    (diff [^\n]+)\n\n```diff\n(.*?)\n```", text, re.DOTALL):
        run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=10, check=False)
        real = {(line[0] == ">", line[1:].strip()) for line in run.stdout.split("\n") if line[:1] in ("<", ">")}
        for line in block.split("\n"):
            if line[1:].strip() != "..." and (line[0] == "+", line[1:].strip()) not in real:
                yield f"{command}: no line {line}"


def main():
    write = "--write" in sys.argv
    path = sys.argv[-1]
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    out, differing, examples, at = [], 0, 0, 0
    in_block = False
    while at < len(lines):
        line = lines[at]
        at += 1
        out.append(line)
        if line.startswith("```"):
            in_block = line == "```console"
        if not (in_block and line.startswith("$ ")):
            continue
        expected = []
        while not lines[at].startswith(("$ ", "```")):
            expected.append(lines[at])
            at += 1
        run = subprocess.run(["bash", "-c", line[2:]], capture_output=True, text=True, timeout=120, check=False)
        actual = (run.stdout + run.stderr).rstrip("\n")
        examples += 1
        out.extend(actual.split("\n") if write else expected)
        same = shape(actual) == shape("\n".join(expected))
        if not (same or write):
            differing += 1
            print(f"{line}\n  document: {chr(10).join(expected).strip()}\n  real:     {actual}")
    if write:
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(out))
    for wrong in wrong_in_diffs("\n".join(lines)):
        differing += 1
        print(wrong)
    if not examples:
        sys.exit(f"{path} has no examples")
    print(f"{path}: {examples} examples, {differing} differ")
    sys.exit(1 if differing else 0)


main()
