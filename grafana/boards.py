#!/usr/bin/env python3
"""Writes Grafana's boards to grafana/dashboards, or checks that what is there is what this code makes.

pip install -r grafana/requirements.txt
grafana/boards.py [--check]
"""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import campus_board
import compare_board
import mode_board
from panels import Board
from scenarios import MODES

FOLDER = Path(__file__).parent / "dashboards"


def boards() -> dict[str, Board]:
    of_modes = {mode: mode_board.build(mode) for mode in MODES}
    return {**of_modes, "compare": compare_board.build(), "campus": campus_board.build()}


def as_json(board: Board) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(board.dashboard.build()) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check = parser.parse_args().check
    wrong = []
    FOLDER.mkdir(exist_ok=True)
    for name, board in boards().items():
        path, text = FOLDER / f"{name}.json", as_json(board)
        if not check:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            wrong.append(path.name)
    if wrong:
        print(f"not what grafana/boards.py makes: {', '.join(wrong)}; run it without --check", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
