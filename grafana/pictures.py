#!/usr/bin/env python3
"""Draws panels of the committed boards from what the Prometheus servers measured: the pictures of docs/MONITORING.md.

    grafana/pictures.py --sync http://localhost:9090 --async http://localhost:9091 --minutes 3 docs/pictures

The queries, names and units are those of the boards; both modes get the same axes. matplotlib must be there.
"""

import argparse
import json
import math
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from check_queries import FOLDER, Asked, Prometheus
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

# One picture each: its rows of panels, sync on the left, async on the right.
PICTURES = {
    "s1": ["S1 Acknowledge and complete"],
    "s2": ["S2 Acknowledge and complete"],
    "s4": ["S4 Acknowledge and complete", "S4 Queue: ready and unacknowledged"],
    "s5": ["S5 Acknowledge and complete"],
    "s6": ["S6 Acknowledge and complete"],
}
STEP_SECONDS = 5


def panel(mode, title):
    """The panel of a mode's board; None where the mode has none like it."""
    board = json.loads((FOLDER / f"{mode}.json").read_text())
    return next((panel for panel in board["panels"] if panel["title"] == title), None)


def series(prometheus, asked, legend):
    """[(name, times, values)] of a query."""
    span = {"start": prometheus.now - prometheus.seconds, "end": prometheus.now, "step": STEP_SECONDS}
    for found in prometheus.ask("query_range", query=asked.substituted(prometheus.seconds), **span)["result"]:
        name = legend
        for label, value in found["metric"].items():
            name = re.sub(rf"{{{{\s*{label}\s*}}}}", value, name)
        points = [(float(at) - prometheus.now + prometheus.seconds, float(value)) for at, value in found["values"]]
        points = [(at, value) for at, value in points if math.isfinite(value)]
        if points:
            yield name, *zip(*points, strict=True)


def seconds(value, _=None):
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.0f} s"


def look(name):
    """One colour for each of the two times, one style for each percentile."""
    time, _, percentile = name.partition(" ")
    colours, styles = {"acknowledge": "tab:blue", "complete": "tab:red"}, {"p50": "-", "p95": "--", "p99": ":"}
    return {"color": colours[time], "linestyle": styles[percentile]} if time in colours else {}


def draw(axes, prometheus, mode, found):
    unit = found["fieldConfig"]["defaults"].get("unit")
    for target in found["targets"]:
        asked = Asked(mode, found["title"], mode, target["expr"], instant=False, step=STEP_SECONDS)
        for name, times, values in series(prometheus, asked, target.get("legendFormat", "")):
            axes.plot(times, values, label=name, linewidth=1.6, **look(name))
    axes.set_title(f"{mode}: {found['title']}", loc="left", fontsize=10)
    axes.set_xlim(0, prometheus.seconds)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / 60:g} min"))
    axes.xaxis.set_major_locator(mpl.ticker.MultipleLocator(60))
    axes.grid(visible=True, alpha=0.3)
    if unit == "s":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(seconds))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)


def picture(name, titles, servers, folder):
    rows = [[(mode, panel(mode, title)) for mode in servers] for title in titles]
    figure, grid = plt.subplots(len(rows), 2, figsize=(11, 3.1 * len(rows)), squeeze=False, layout="constrained")
    for row, places in zip(rows, grid, strict=True):
        there = []
        for (mode, found), axes in zip(row, places, strict=True):
            if found is None:
                axes.axis("off")
                axes.text(0.5, 0.5, f"{mode}: there is no queue", ha="center", va="center", color="gray")
                continue
            draw(axes, servers[mode], mode, found)
            there.append(axes)
        # The same axis for both, or they cannot be compared.
        limits = [axes.get_ylim() for axes in there]
        for axes in there:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    day = datetime.fromtimestamp(next(iter(servers.values())).now, UTC)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": day.isoformat(timespec="seconds")})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sync", metavar="URL", required=True, help="the sync stack's Prometheus")
    parser.add_argument("--async", metavar="URL", dest="asynchronous", required=True, help="the async stack's")
    parser.add_argument("--minutes", type=float, default=3, help="how far to look back; 3")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    # The same picture from the same figures, and text that stays text.
    mpl.rcParams.update({"svg.hashsalt": "boards", "svg.fonttype": "none", "font.size": 9})
    addresses = {"sync": args.sync, "async": args.asynchronous}
    servers = {mode: Prometheus(url, int(args.minutes * 60)) for mode, url in addresses.items()}
    now = time.time()
    for server in servers.values():
        server.now = now
    for name, titles in PICTURES.items():
        picture(name, titles, servers, args.folder)
        print(args.folder / f"{name}.svg")


if __name__ == "__main__":
    main()
