#!/usr/bin/env python3
"""What holds for every board, read from the committed JSON: `python grafana/test_boards.py`, or with pytest."""

import itertools
import json
import re
import sys
from pathlib import Path

import boards
import campus_board

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
UIDS = {mode: f"{mode}-microservices-dashboard" for mode in ("sync", "async", "compare")} | {"campus": "campus-dashboard"}
# As the study calls them.
KNOWN = (
    "Total Request Rate (All Services)",
    "Overall Error Rate (5xx)",
    "Total System CPU Usage",
    "Total System Memory Usage",
    "Request Rate per Service (RPS)",
    "Error Rate per Service (HTTP 5xx)",
    "P95 Latency per Service",
)


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def with_queries(board):
    return [panel for panel in panels(board) if panel["type"] != "text"]


def expressions(board):
    for panel in with_queries(board):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_the_files_are_what_the_code_makes():
    for name, board in boards.boards().items():
        assert (FOLDER / f"{name}.json").read_text() == boards.as_json(board), f"{name}.json: run grafana/boards.py"
    assert set(BOARDS) == set(UIDS)


def test_identity():
    assert {name: board["uid"] for name, board in BOARDS.items()} == UIDS
    assert BOARDS["compare"]["title"] == "compare"
    for name, board in BOARDS.items():
        # What Grafana 12.0 reads; later ones bring it up to date.
        assert board["schemaVersion"] == 41, name


def test_ids_are_unique_and_titles_too():
    for name, board in BOARDS.items():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)), name
        titles = [panel["title"] for panel in board["panels"]]
        assert len(titles) == len(set(titles)), name


def test_nothing_overlaps_or_leaves_the_grid():
    for name, board in BOARDS.items():
        places = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]
        for title, place in places:
            assert place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0 and place["w"] > 0, (name, title)
        for (one, a), (other, b) in itertools.combinations(places, 2):
            apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
            assert apart, (name, one, other)
        # Nor are there gaps between lines: every line of the grid is used.
        used = {line for _, place in places for line in range(place["y"], place["y"] + place["h"])}
        assert used == set(range(max(used) + 1)), name


def test_sync_and_async_line_up():
    place = {name: {panel["title"]: panel["gridPos"] for panel in BOARDS[name]["panels"]} for name in ("sync", "async")}
    common = place["sync"].keys() & place["async"].keys()
    assert len(common) > 40
    for title in common:
        assert place["sync"][title] == place["async"][title], title
    # What one has instead of the other's has its place, too; below that async goes on with its broker.
    spots = {name: {(p["x"], p["y"]) for p in places.values()} for name, places in place.items()}
    only_sync = {title for title in place["sync"] if title not in common}
    assert all((place["sync"][t]["x"], place["sync"][t]["y"]) in spots["async"] for t in only_sync)
    last = max(p["y"] + p["h"] for p in place["sync"].values())
    assert place["async"]["Broker"]["y"] == last


def test_known_panels_and_a_row_for_each_scenario():
    for name in ("sync", "async"):
        titles = {panel["title"] for panel in BOARDS[name]["panels"]}
        assert set(KNOWN) <= titles, name
        for number in range(1, 7):
            assert f"S{number} Acknowledge and complete" in titles
            assert any(p["type"] == "row" and p["title"].startswith(f"S{number} ") for p in BOARDS[name]["panels"])


def test_the_lab_has_a_row_for_each_stack():
    rows = [panel["title"] for panel in BOARDS["campus"]["panels"] if panel["type"] == "row"]
    assert rows == [f"Stack {stack['name']}" for stack in campus_board.STACKS] and len(rows) >= 3


def test_acknowledge_and_complete_are_in_one_panel():
    for name in ("sync", "async"):
        for panel in panels(BOARDS[name]):
            if panel["title"].endswith("Acknowledge and complete"):
                legends = [target["legendFormat"] for target in panel["targets"]]
                assert legends == [f"{what} {p}" for what in ("acknowledge", "complete") for p in ("p50", "p95", "p99")]


def test_data_source_variables():
    for name, board in BOARDS.items():
        variables = [v["name"] for v in board["templating"]["list"] if v["type"] == "datasource"]
        assert variables == (["sync", "async"] if name == "compare" else ["datasource"]), name
        allowed = {f"${{{variable}}}" for variable in variables}
        for panel in with_queries(board):
            assert {target["datasource"]["uid"] for target in panel["targets"]} <= allowed, (name, panel["title"])
        for annotation in board["annotations"]["list"]:
            assert annotation["datasource"]["uid"] in allowed


def test_every_panel_has_a_unit_and_says_what_to_look_for():
    for name, board in BOARDS.items():
        for panel in panels(board):
            assert len(panel["description"]) > 30, (name, panel["title"])
        for panel in with_queries(board):
            assert panel["fieldConfig"]["defaults"]["unit"], (name, panel["title"])
            assert panel["targets"], (name, panel["title"])
            assert all(target["legendFormat"] for target in panel["targets"]), (name, panel["title"])


def test_windows_follow_the_zoom():
    for name, board in BOARDS.items():
        for title, expr in expressions(board):
            for window in re.findall(r"\[([^\]]*)\]", without_strings(expr)):
                assert window in ("$__rate_interval", "$__range"), (name, title, expr)
            for function in re.findall(r"\b(i?rate|increase|i?delta)\(", expr):
                assert function in ("rate", "increase"), (name, title, expr)
                assert "[$__" in expr, (name, title, expr)


def test_percentiles_come_from_buckets():
    for name, board in BOARDS.items():
        for title, expr in expressions(board):
            assert not re.search(r"\b(avg|sum|stddev)\b[^(]*\(\s*histogram_quantile", expr), (name, title)
            assert not re.search(r"avg_over_time\([^)]*:p\d\d", expr), (name, title)


def test_a_board_shows_its_own_stack():
    other = {"sync": "async", "async": "sync"}
    for panel in with_queries(BOARDS["campus"]):
        stack = panel["title"].split(":")[0]
        for target in panel["targets"]:
            expr = target["expr"]
            assert set(re.findall(r'stack="(\w+)"', expr)) == {stack}, (panel["title"], expr)
    for name, board in BOARDS.items():
        if name == "campus":
            continue
        for panel in with_queries(board):
            for target in panel["targets"]:
                mode = name if name != "compare" else target["datasource"]["uid"].strip("${}")
                assert f'mode="{other[mode]}"' not in target["expr"], (name, panel["title"])
                for selector in re.findall(r'\w+(?:\{(?:[^"{}]|"[^"]*")*\})', target["expr"]):
                    if not selector.startswith(("k6_", "ALERTS")):
                        assert f'mode="{mode}"' in selector, (name, panel["title"], selector)
                    if selector.startswith("container_"):
                        assert f'container_label_com_docker_compose_project="microservices-{mode}"' in selector


def without_strings(expr):
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)


if __name__ == "__main__":
    failed = 0
    for name, test in [(name, value) for name, value in list(globals().items()) if name.startswith("test_")]:
        try:
            test()
            print(f"ok    {name}")
        except AssertionError as error:
            failed += 1
            print(f"FAIL  {name}: {error}")
    sys.exit(1 if failed else 0)
