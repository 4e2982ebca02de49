"""Forgotten workflows go to the archive once, whatever dies, and are shown as before."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_partition import Partition, agent, as_record, route
from test_cli import call, call_json
from told_mesh import TOPICS, ToldPartition, write

from mesh.codec.archives import ArchiveDamaged, ArchivedDecision, ArchivedHead
from mesh.errors import OperatorError
from mesh.inspection.history import archive as archive_module
from mesh.inspection.history import archiving
from mesh.inspection.history.archive import Archive
from mesh.inspection.history.archiving import archive_forgotten, entries_of, last_state
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.projection import Folder
from mesh.inspection.read_model.queries import TimelineEntry
from mesh.inspection.read_model.schema import connect_in_memory, transaction
from mesh.wiring.files import open_archive

LIVE, GONE, AGAIN = "live", ("gone-1", "gone-2", "gone-3", "gone-4", "gone-5"), "again"


def forgotten(made: Partition) -> Partition:
    """One that runs, five that are forgotten, and one that was and has begun again."""
    for key in (LIVE, *GONE, AGAIN):
        made.start(key, event_id=key, data={"n": 1})
        if key != LIVE:
            made.succeed("a", key=key)
            made.wait(key=key)
    made.start(AGAIN, event_id="once more", data={"n": 2})
    return made


def model_of(made: Partition) -> apsw.Connection:
    db = connect_in_memory()
    records = [as_record(out, offset) for offset, out in enumerate(made.log)]
    with transaction(db):
        Folder(db, TOPICS).apply(TOPICS.log, 0, records)
    return db


@pytest.fixture(scope="module")
def made() -> Partition:
    return forgotten(Partition(route({"a": agent()})))


def opened(folder: Path, *, writes: bool = False) -> Archive:
    return open_archive(str(folder), folder, writes=writes)


def find(folder: Path, workflow_id: str) -> list[tuple[str, ArchivedHead, list[ArchivedDecision]]]:
    with opened(folder) as archive:
        return archive.parts(workflow_id)


def archive_all(db: apsw.Connection, folder: Path, batch: int = 2) -> int:
    with opened(folder, writes=True) as archive:
        return sum(archive_forgotten(db, archive, batch=batch))


def known(db: apsw.Connection, made: Partition) -> dict[str, list[TimelineEntry]]:
    return {key: queries.decisions_of(db, made.id_of(key)) for key in (LIVE, *GONE, AGAIN)}


def check(db: apsw.Connection, folder: Path, made: Partition) -> None:
    before = known(model_of(made), made)
    for key in GONE:
        [(_, head, decisions)] = find(folder, made.id_of(key))
        assert entries_of(decisions) == before[key]
        assert not queries.has_workflow(db, made.id_of(key))
        assert queries.decisions_of(db, made.id_of(key)) == []
        state = last_state(entries_of(decisions))
        assert state == queries.workflow_state(model_of(made), made.id_of(key))
        assert head.status == "completed"
    for key in (LIVE, AGAIN):
        assert find(folder, made.id_of(key)) == []
        assert queries.decisions_of(db, made.id_of(key)) == before[key]
    assert not list(folder.glob("*.part"))


class Died(BaseException):
    pass


@contextmanager
def dying(after: int) -> Iterator[None]:
    """Whatever writes dies at the call of this number, before it or behind it."""
    left = after

    def one() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (Path, "rename"),
            (os, "fsync"),
            (Archive, "_index"),
            (archiving, "_let_go"),
            (archive_module, "encode_part"),
        ):
            patch.setattr(owner, name, _told(getattr(owner, name), one))
        with suppress(Died):
            yield


def _told(call: Callable[..., Any], one: Callable[[], None]) -> Callable[..., Any]:
    def told(*arguments: Any, **more: Any) -> Any:
        one()
        found = call(*arguments, **more)
        one()
        return found

    return told


def test_all_that_is_forgotten_is_archived_once(made: Partition, tmp_path: Path) -> None:
    db = model_of(made)
    assert archive_all(db, tmp_path) == len(GONE)
    check(db, tmp_path, made)
    assert archive_all(db, tmp_path) == 0
    assert len(list(tmp_path.glob("*.gz"))) == 3
    # a read model that is built again has them all, and lets go of them without another file
    built_again = model_of(made)
    assert archive_all(built_again, tmp_path) == len(GONE)
    check(built_again, tmp_path, made)
    assert len(list(tmp_path.glob("*.gz"))) == 3


@given(deaths=st.lists(st.integers(0, 40), max_size=4), batch=st.integers(1, 6))
@settings(max_examples=40)
def test_a_run_that_dies_anywhere_loses_nothing_and_doubles_nothing(deaths: list[int], batch: int) -> None:
    made = forgotten(Partition(route({"a": agent()})))
    with tempfile.TemporaryDirectory() as name:
        folder, db = Path(name), model_of(made)
        for after in deaths:
            with dying(after):
                archive_all(db, folder, batch)
        archive_all(db, folder, batch)
        check(db, folder, made)
        with opened(folder) as archive:
            assert len(list(archive.check())) == len(GONE)


def test_the_index_is_made_of_the_files_again(made: Partition, tmp_path: Path) -> None:
    db = model_of(made)
    archive_all(db, tmp_path)
    (tmp_path / "index.sqlite").unlink()
    with opened(tmp_path, writes=True):
        pass
    check(db, tmp_path, made)


def test_two_runs_at_once_are_one(tmp_path: Path) -> None:
    with opened(tmp_path, writes=True), pytest.raises(OperatorError, match="another process writes to the archive"):
        opened(tmp_path, writes=True)
    with opened(tmp_path, writes=True):
        pass


def test_a_reader_does_not_wait_for_a_run(made: Partition, tmp_path: Path) -> None:
    archive_all(model_of(made), tmp_path)
    with opened(tmp_path, writes=True):
        assert len(find(tmp_path, made.id_of(GONE[0]))) == 1


def test_a_run_that_was_killed_leaves_nothing_locked(made: Partition, tmp_path: Path) -> None:
    archive_all(model_of(made), tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from mesh.wiring.files import open_archive\n"
        "archive = open_archive(sys.argv[1], Path(), writes=True)\n"
        "archive._db.execute('BEGIN IMMEDIATE; DELETE FROM part; PRAGMA cache_spill = 1')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=300)
    assert ended.returncode == -signal.SIGKILL
    assert len(find(tmp_path, made.id_of(GONE[0]))) == 1
    assert archive_all(model_of(made), tmp_path) == len(GONE)


def test_damage_is_noticed(made: Partition, tmp_path: Path) -> None:
    archive_all(model_of(made), tmp_path, batch=9)
    [file] = tmp_path.glob("*.gz")
    whole = file.read_bytes()
    for damaged in (whole[:-3], whole[:50] + b"\0\0" + whole[52:]):
        file.write_bytes(damaged)
        with opened(tmp_path) as archive, pytest.raises(ArchiveDamaged, match="restore"):
            list(archive.check())


def test_a_person_finds_an_archived_workflow_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    made = forgotten(ToldPartition(route({"a": agent()})))
    write(tmp_path, made)
    name = made.id_of(GONE[0])
    before = call_json("workflow", name)
    assert "set MESH_ARCHIVE_DIR" in call("archive", "run").stderr
    monkeypatch.setenv("MESH_ARCHIVE_DIR", str(tmp_path / "archive"))
    assert call_json("archive", "run") == {"archived": len(GONE)}
    after = call_json("workflow", name)
    assert after.pop("archived") == ["000000001.jsonl.gz"]
    assert after == before
    assert "archived in 000000001.jsonl.gz" in call("workflow", name).stdout
    listed = {one["workflow_id"] for one in call_json("workflows", "list")["workflows"]}
    assert listed == {made.id_of(LIVE), made.id_of(AGAIN)}
    assert call_json("archive", "verify") == {"whole": len(GONE)}
    assert "the workflow that it was for is archived" in call("event", GONE[0]).stdout
