"""What the boards need to know about the study: who starts a scenario, who takes part, and what ends it. From the contract."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["sync", "async"]
MODES: tuple[Mode, ...] = ("sync", "async")
CONTRACT = json.loads((Path(__file__).parent.parent / "k6-tests/contract.json").read_text())
# Started so rarely that a figure needs a longer look back.
RARE = ("s4",)


@dataclass(frozen=True)
class Scenario:
    key: str
    title: str
    # The request that starts it.
    method: str
    handler: str
    # Its final effects: it is complete when all of them are.
    effects: tuple[str, ...]
    # What carries it on from there: paths that are called in sync mode, queues in async mode.
    calls: tuple[str, ...]
    queues: tuple[str, ...]
    # Whether it is started so rarely that a figure needs a longer look back.
    rare: bool = False

    @property
    def name(self) -> str:
        return self.key.upper()


def _of(facts: dict) -> Scenario:
    key = facts["key"]
    events = {event["name"] for event in CONTRACT["events"] if event["scenario"] == key}
    return Scenario(
        key,
        facts["description"],
        facts["method"],
        facts["path"],
        effects=tuple(effect["name"] for effect in CONTRACT["effects"] if effect["scenario"] == key),
        calls=tuple(call["path"] for call in CONTRACT["calls"] if call["scenario"] == key),
        queues=tuple(queue["name"] for queue in CONTRACT["queues"] if queue["event"] in events),
        rare=key in RARE,
    )


SCENARIOS = tuple(_of(facts) for facts in CONTRACT["scenarios"])
