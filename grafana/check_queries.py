#!/usr/bin/env python3
"""Asks a Prometheus every query of the committed boards, and fails for each that gives nothing.

To be run after some load, so that there is something to see:

    grafana/check_queries.py --prometheus http://localhost:9090 --board sync
    grafana/check_queries.py --prometheus http://localhost:9091 --board async --without cadvisor,k6
    grafana/check_queries.py --prometheus http://localhost:9096 --board campus --without k6

Two things must hold for a query: it gives at least one number, and each of its selectors finds series. The second finds the
misspelt name behind an `or 0`. With both addresses the board `compare` is asked, too:

    grafana/check_queries.py --sync http://localhost:9090 --async http://localhost:9091
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SELECTOR = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[^"{}]|"(?:[^"\\]|\\.)*")*)\}')
# Queries of these metrics need a program that does not run everywhere.
GROUPS = {"cadvisor": "container_", "k6": "k6_"}
# Values of these labels say what happened: that nothing of the kind did is no mistake.
OUTCOMES = re.compile(r"^\s*(status|outcome|alertstate)\s*(=~|!~|=|!=)")
# Metrics that a healthy stack need not have at all.
MAY_BE_ABSENT = {
    "ALERTS": "exists while an alert does",
    "k6_dropped_iterations_total": "exists once k6 had to drop one",
    "outbox_waiting": "exists for a destination that takes no events",
}
# The interval of the scrapes, and how Grafana makes $__rate_interval from it.
SCRAPE_SECONDS = 5


@dataclass(frozen=True)
class Asked:
    board: str
    panel: str
    mode: str
    expr: str
    instant: bool
    step: int

    def substituted(self, seconds: int) -> str:
        window = max(4 * SCRAPE_SECONDS, self.step + SCRAPE_SECONDS)
        return self.expr.replace("$__rate_interval", f"{window}s").replace("$__range", f"{seconds}s")


class Prometheus:
    def __init__(self, address: str, seconds: int) -> None:
        self.address, self.seconds, self.now = address.rstrip("/"), seconds, time.time()
        self._found: dict[str, bool] = {}

    def ask(self, path: str, **parameters: Any) -> Any:
        data = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}", data=data, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from None
        except OSError as error:
            sys.exit(f"{self.address} does not answer: {error}")

    def numbers(self, asked: Asked) -> int:
        """How many numbers the query gives over the time; what is not a number does not count."""
        expr = asked.substituted(self.seconds)
        if asked.instant:
            result = self.ask("query", query=expr, time=self.now)["result"]
            values = [series["value"][1] for series in result]
        else:
            span = {"start": self.now - self.seconds, "end": self.now, "step": asked.step}
            result = self.ask("query_range", query=expr, **span)["result"]
            values = [value for series in result for _, value in series["values"]]
        return sum(math.isfinite(float(value)) for value in values)

    def finds(self, selector: str) -> bool:
        if selector not in self._found:
            window = {"start": self.now - self.seconds, "end": self.now, "limit": 1}
            self._found[selector] = bool(self.ask("series", **{"match[]": selector, **window}))
        return self._found[selector]


def selectors(expr: str) -> Iterator[tuple[str, str]]:
    """Name and selector of each metric, without the labels that say what happened."""
    for name, matchers in SELECTOR.findall(expr):
        parts = re.findall(r'[^,"]+"(?:[^"\\]|\\.)*"', matchers)
        kept = ",".join(part.strip() for part in parts if not OUTCOMES.match(part))
        yield name, f"{name}{{{kept}}}"


def asked_by(board_name: str, folder: Path) -> Iterator[Asked]:
    board = json.loads((folder / f"{board_name}.json").read_text())

    def mode_of(source: dict) -> str:
        return board_name if board_name != "compare" else source["uid"].strip("${}")

    for panel in board["panels"]:
        step = {"1m": 60, "30s": 30}.get(panel.get("interval", ""), SCRAPE_SECONDS)
        for target in panel.get("targets", []):
            instant = bool(target.get("instant"))
            yield Asked(board_name, panel["title"], mode_of(target["datasource"]), target["expr"], instant, step)
    for annotation in board["annotations"]["list"]:
        yield Asked(board_name, annotation["name"], mode_of(annotation["datasource"]), annotation["expr"], False, SCRAPE_SECONDS)


def judge(asked: Asked, prometheus: Prometheus) -> str | None:
    """What is wrong with a query, if anything is."""
    try:
        absent = [(name, selector) for name, selector in selectors(asked.expr) if not prometheus.finds(selector)]
        for name, selector in absent:
            if name not in MAY_BE_ABSENT:
                return f"nothing is found for {selector}"
        if prometheus.numbers(asked) == 0 and not absent:
            return "gives no number"
    except ValueError as error:
        return f"is refused: {error}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", metavar="URL", help="the server of --board")
    parser.add_argument("--board", choices=["sync", "async", "campus"])
    parser.add_argument("--sync", metavar="URL", help="the sync stack's server")
    parser.add_argument("--async", metavar="URL", dest="asynchronous", help="the async stack's server")
    parser.add_argument("--without", default="", metavar="GROUPS", help=f"what does not run, of: {','.join(GROUPS)}")
    parser.add_argument("--boards", metavar="FOLDER", type=Path, default=FOLDER, help="the boards' files; grafana/dashboards")
    parser.add_argument("--minutes", type=float, default=10, help="how far to look back; 10")
    args = parser.parse_args()
    addresses = {"sync": args.sync, "async": args.asynchronous}
    if args.prometheus and args.board:
        addresses[args.board] = args.prometheus
    servers = {mode: Prometheus(url, int(args.minutes * 60)) for mode, url in addresses.items() if url}
    absent = [group for group in args.without.split(",") if group]
    if not servers or bool(args.prometheus) != bool(args.board) or not set(absent) <= set(GROUPS):
        parser.error("give --prometheus with --board, or --sync, --async, or both; groups are " + ", ".join(GROUPS))

    asked = [query for board in servers for query in asked_by(board, args.boards)]
    if {"sync", "async"} <= set(servers):
        asked += asked_by("compare", args.boards)
    skipped = [q for q in asked if any(GROUPS[group] in q.expr for group in absent)]
    wrong = 0
    for query in asked:
        reason = None if query in skipped else judge(query, servers[query.mode])
        if reason:
            wrong += 1
            print(f"{query.board}: {query.panel}: {reason}\n    {query.expr}")
    print(f"{len(asked)} queries, {len(skipped)} skipped, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
