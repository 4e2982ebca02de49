"""What any version wrote to its log, this one replays to the same states.

The files of released versions are never changed; `varied_log.py` writes a new one for a new
version.

The newest, log-v2, belongs to the version that is in the making. Until that is released, the file
may be written again when an event comes to the log or changes (`rm tests/data/log-v2.jsonl`, then
as below).
"""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from varied_log import varied_run

from mesh.codec.log import decode_log_record
from mesh.codec.state import canonical_workflow
from mesh.core.effects import AskApproval, Effect, PublishOutcome, SendDeadLetter, SendTask, effects
from mesh.core.events import Decision, Event, LogRecord
from mesh.core.json_values import canonical
from mesh.core.receipts import SendReceipt
from mesh.core.replay import replay
from mesh.ports import Record

WRITE = "let varied_log.py lead to it, and write the file: python tests/unit/varied_log.py tests/data/log-vN.jsonl"
FOLDER = Path(__file__).parent.parent / "data"
LOGS = sorted(FOLDER.glob("log-v*.jsonl"), key=lambda path: int(path.stem.removeprefix("log-v")))


def read(path: Path) -> tuple[list[tuple[int, LogRecord]], dict[str, Any]]:
    *records, last = [json.loads(line) for line in path.read_text().splitlines()]
    found = [
        (
            line["offset"],
            decode_log_record(Record("log", 0, line["offset"], 0, None, json.dumps(line["record"]).encode(), ())),
        )
        for line in records
    ]
    return found, last["gives"]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_an_old_log_gives_the_states_that_it_gave(path: Path) -> None:
    records, gives = read(path)
    state = replay(records)
    assert {name: json.loads(canonical_workflow(w)) for name, w in state.workflows.items()} == gives["workflows"]
    assert [canonical_workflow(state.workflows[n]) for n in gives["workflows"]] == [
        canonical(document) for document in gives["workflows"].values()
    ]
    assert (state.positions, state.mark) == (gives["positions"], gives["mark"])
    assert state.sequence == gives.get("sequence", 0)
    assert {name: list(place) for name, place in state.watermarks.items()} == gives["watermarks"]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_effects_of_an_old_log_can_still_be_sent_again(path: Path) -> None:
    assert kinds_of_effects(path) >= {SendTask, AskApproval, SendReceipt, PublishOutcome, SendDeadLetter}


def kinds_of_effects(path: Path) -> set[type]:
    records, _ = read(path)
    return {type(effect) for _, record in records if isinstance(record, Decision) for effect in effects(record)}


def test_the_newest_log_has_every_event() -> None:
    records, _ = read(LOGS[-1])
    found = {type(event) for _, record in records if isinstance(record, Decision) for event in record.events}
    assert set(get_args(Event)) - found == set(), WRITE
    assert set(get_args(Effect)) - kinds_of_effects(LOGS[-1]) == set(), WRITE


def test_the_run_that_such_files_are_made_of_can_be_made_today() -> None:
    varied_run().check_replay()
