"""The duplicate finder's index: what it finds, that it survives, and that processes share it."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agents.issue_triage.duplicate_finder import find_duplicates
from agents.issue_triage.index import DuplicateIndex
from agents.issue_triage.models import Duplicates, Issue
from mesh.testing.context import FakeContext

PATIENCE_S = 60.0

SLEEP = (
    "Transfer does not resume after sleep",
    "Close the lid during a transfer, open it: it waits for the peer for ever.",
)
SLEEP_AGAIN = (
    "Transfers hang after laptop was suspended",
    "After closing the lid the transfer never resumes, it waits for its peer.",
)
OTHERS = (
    ("Add dark theme", "The dashboard is too bright at night."),
    ("Typo in the manual", "It says recieve in chapter two."),
    ("How to rotate logs?", "Is there something built in or should I use logrotate?"),
    ("Scan is slow with many files", "A folder with a million files takes an hour to scan."),
    ("Login fails with a umlaut in the password", "The server answers 401 although the password is right."),
    ("Crash when the disk is full", "Writing to a full disk ends in a panic instead of a message."),
)


def issue(number: int, text: tuple[str, str], repository: str = "octo/repo") -> Issue:
    return Issue(
        number=number,
        title=text[0],
        body=text[1],
        html_url=f"https://github.com/{repository}/issues/{number}",
        repository_url=f"https://api.github.com/repos/{repository}",
    )


def filled(path: Path) -> DuplicateIndex:
    index = DuplicateIndex(path)
    index.find(issue(1, SLEEP), task="t1")
    for number, text in enumerate(OTHERS, start=2):
        assert index.find(issue(number, text), task=f"t{number}").matches == []
    return index


def numbers(found: Duplicates) -> list[int]:
    return [match.number for match in found.matches]


def test_the_same_fault_in_other_words_is_found_among_others(tmp_path: Path) -> None:
    (match,) = filled(tmp_path / "i.db").find(issue(20, SLEEP_AGAIN), task="t20").matches
    assert (match.number, match.title, match.url) == (1, SLEEP[0], "https://github.com/octo/repo/issues/1")
    assert 0.42 <= match.score < 1


def test_it_is_found_in_an_index_that_holds_nothing_else(tmp_path: Path) -> None:
    index = DuplicateIndex(tmp_path / "i.db")
    index.find(issue(1, SLEEP), task="t1")
    assert numbers(index.find(issue(2, SLEEP_AGAIN), task="t2")) == [1]


def test_best_matches_stand_first_and_are_few(tmp_path: Path) -> None:
    index = DuplicateIndex(tmp_path / "i.db", most=3)
    for number in range(1, 9):
        index.find(
            issue(number, (f"{SLEEP[0]} {number}", SLEEP[1] + " Also it beeps." * (number % 3))), task=f"t{number}"
        )
    found = index.find(issue(20, SLEEP), task="t20")
    assert len(found.matches) == 3
    assert [match.score for match in found.matches] == sorted((match.score for match in found.matches), reverse=True)


def test_the_index_survives_a_restart(tmp_path: Path) -> None:
    filled(tmp_path / "i.db")
    assert numbers(DuplicateIndex(tmp_path / "i.db").find(issue(20, SLEEP_AGAIN), task="t20")) == [1]


def test_another_repositorys_issues_are_not_compared(tmp_path: Path) -> None:
    assert filled(tmp_path / "i.db").find(issue(20, SLEEP, "octo/other"), task="t20").matches == []


def test_a_repository_is_the_same_in_capitals(tmp_path: Path) -> None:
    assert numbers(filled(tmp_path / "i.db").find(issue(20, SLEEP, "Octo/Repo"), task="t20")) == [1]


def test_an_issue_is_not_its_own_duplicate(tmp_path: Path) -> None:
    index = filled(tmp_path / "i.db")
    assert index.find(issue(1, SLEEP), task="t1").matches == []
    assert index.find(issue(1, SLEEP), task="a new run of the same issue").matches == []


def test_a_task_delivered_again_has_the_answer_of_the_first_time(tmp_path: Path) -> None:
    index = filled(tmp_path / "i.db")
    first = index.find(issue(20, SLEEP_AGAIN), task="t20")
    index.find(issue(21, SLEEP_AGAIN), task="t21")
    assert index.find(issue(20, SLEEP_AGAIN), task="t20") == first


def test_an_edited_issue_is_found_by_its_new_text(tmp_path: Path) -> None:
    index = filled(tmp_path / "i.db")
    index.find(issue(1, OTHERS[0]), task="t1, edited")
    assert index.find(issue(20, SLEEP_AGAIN), task="t20").matches == []


@pytest.mark.parametrize(
    "text", [("", ""), ("?!", "…"), ("it is", "the of"), ("x" * 5000, "y" * 300_000), ("\x00", "\x00")]
)
def test_any_text_can_be_asked_and_kept(tmp_path: Path, text: tuple[str, str]) -> None:
    index = filled(tmp_path / "i.db")
    index.find(issue(30, text), task="t30")
    index.find(issue(31, text), task="t31")


def test_a_failed_call_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(tmp_path / "i.db")

    def fail(*_: object) -> None:
        raise RuntimeError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr("agents.issue_triage.index._remember", fail)
        with pytest.raises(RuntimeError):
            index.find(issue(20, SLEEP_AGAIN), task="t20")
    assert numbers(index.find(issue(21, SLEEP), task="t21")) == [1]


def test_the_agent_keeps_its_index_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DUPLICATES_INDEX", str(tmp_path / "deep" / "i.db"))
    find_duplicates(issue(1, SLEEP), FakeContext(workflow_id="w:1"))
    assert numbers(find_duplicates(issue(2, SLEEP_AGAIN), FakeContext(workflow_id="w:2"))) == [1]
    assert (tmp_path / "deep" / "i.db").exists()


PROGRAM = """
import sys
from pathlib import Path
from agents.issue_triage.index import DuplicateIndex
from agents.issue_triage.models import Issue
path, first = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + 20):
    one = Issue(number=number, title=f"Fault number{number} in part{number}", body="word " * 50,
                repository_url="https://api.github.com/repos/octo/repo")
    DuplicateIndex(path).find(one, task=f"t{number}")
"""


def test_processes_share_a_new_index_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(first)],
            cwd=Path(__file__).parents[2],
            env={**os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (100, 200, 300)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(PATIENCE_S) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("select count(*) from issues").fetchone() == (60,)
        assert db.execute("select count(distinct issue) from postings").fetchone() == (60,)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
