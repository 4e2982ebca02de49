"""The checkpoint file: what was saved is loaded, in one piece; what can't be trusted counts as absent."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mesh.adapters.checkpoint import CheckpointFile
from mesh.errors import OperatorError
from mesh.ports import Checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mesh.log-3.checkpoint"


@pytest.fixture
def file(path: Path) -> Iterator[CheckpointFile]:
    file = CheckpointFile.open(path)
    yield file
    file.close()


def test_a_new_file_holds_no_checkpoint(file: CheckpointFile, path: Path) -> None:
    assert file.load() is None
    assert path.exists()


def test_what_was_saved_is_loaded_after_opening_again(file: CheckpointFile, path: Path) -> None:
    file.save(offset=7, epoch_tokens=b"e1", meta=b"m1", changed={"r:1": b"one", "r:2": b"two", "r:3": b""}, removed=[])
    file.save(offset=9, epoch_tokens=b"e2", meta=b"\x00m2", changed={"r:2": b"two again"}, removed={"r:1", "r:none"})
    file.close()
    again = CheckpointFile.open(path)
    assert again.load() == Checkpoint(
        offset=9, epoch_tokens=b"e2", meta=b"\x00m2", workflows={"r:2": b"two again", "r:3": b""}
    )
    again.close()


def test_a_save_that_fails_changes_nothing(file: CheckpointFile) -> None:
    file.save(offset=1, epoch_tokens=b"", meta=b"", changed={"r:1": b"one"}, removed=[])
    with pytest.raises(TypeError):
        file.save(offset=2, epoch_tokens=b"", meta=b"", changed={"r:1": b"two", "r:2": None}, removed=[])  # type: ignore[dict-item]  # the fault
    loaded = file.load()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (1, {"r:1": b"one"})


def test_delete_removes_all_of_its_files(file: CheckpointFile, path: Path) -> None:
    file.save(offset=1, epoch_tokens=b"", meta=b"", changed={}, removed=[])
    file.delete()
    assert list(path.parent.iterdir()) == []


def test_a_deleted_checkpoint_holds_nothing_and_can_be_saved_anew(file: CheckpointFile, path: Path) -> None:
    file.save(offset=1, epoch_tokens=b"", meta=b"", changed={"r:1": b"one"}, removed=[])
    file.delete()
    assert file.load() is None
    file.save(offset=2, epoch_tokens=b"", meta=b"", changed={"r:2": b"two"}, removed=[])
    loaded = file.load()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (2, {"r:2": b"two"})


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database " * 1000)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE someone_elses (x)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA user_version = 99")


def _flipped_state(path: Path) -> None:
    content = path.read_bytes()
    assert b"the state of one" in content
    path.write_bytes(content.replace(b"the state of one", b"the state of two"))


def _flipped_head(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE state SET log_offset = 1000")


@pytest.mark.parametrize("damage", [_garbage, _cut, _foreign, _newer, _flipped_state, _flipped_head])
def test_a_file_that_cannot_be_trusted_counts_as_absent_and_is_replaced(
    path: Path, damage: Callable[[Path], None]
) -> None:
    file = CheckpointFile.open(path)
    file.save(offset=7, epoch_tokens=b"e", meta=b"m", changed={"r:1": b"the state of one"}, removed=[])
    file.close()
    damage(path)
    with capture_logs() as logs:
        file = CheckpointFile.open(path)
        assert file.load() is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("checkpoint_replaced", "warning")]
    file.save(offset=8, epoch_tokens=b"", meta=b"", changed={"r:2": b"two"}, removed=[])
    file.close()
    again = CheckpointFile.open(path)
    assert again.load() == Checkpoint(offset=8, epoch_tokens=b"", meta=b"", workflows={"r:2": b"two"})
    again.close()


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"file/x\.checkpoint"):
        CheckpointFile.open(tmp_path / "file" / "x.checkpoint")
