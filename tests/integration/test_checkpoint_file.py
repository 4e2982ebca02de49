"""The checkpoint file: what was saved is loaded, in one piece.

A file that can't be trusted counts as absent.
"""

import re
import sqlite3
from collections.abc import Callable, Collection, Iterator
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


def _save(
    file: CheckpointFile,
    offset: int,
    changed: dict[str, bytes],
    removed: Collection[str] = (),
    *,
    epoch_tokens: bytes = b"",
    meta: bytes = b"",
) -> None:
    file.put(changed, removed)
    file.save(offset=offset, epoch_tokens=epoch_tokens, meta=meta)


def test_a_new_file_holds_no_checkpoint(file: CheckpointFile, path: Path) -> None:
    assert file.load() is None
    assert path.exists()


def test_what_was_saved_is_loaded_after_opening_again(file: CheckpointFile, path: Path) -> None:
    _save(file, 7, {"r:1": b"one", "r:2": b"two", "r:3": b""}, [], epoch_tokens=b"e1", meta=b"m1")
    _save(file, 9, {"r:2": b"two again"}, {"r:1", "r:none"}, epoch_tokens=b"e2", meta=b"\x00m2")
    file.close()
    again = CheckpointFile.open(path)
    assert again.load() == Checkpoint(
        offset=9, epoch_tokens=b"e2", meta=b"\x00m2", workflows={"r:2": b"two again", "r:3": b""}
    )
    again.close()


def test_a_file_of_the_format_before_is_loaded_and_marked_as_ours(file: CheckpointFile, path: Path) -> None:
    """So older code, which would pass over what is new in it, takes it for another version's."""
    _save(file, 7, {"r:1": b"one"})
    file.close()
    with closing(sqlite3.connect(path)) as other:
        [[ours]] = other.execute("PRAGMA user_version").fetchall()
        other.execute("PRAGMA user_version = 1")
    again = CheckpointFile.open(path)
    loaded = again.load()
    again.close()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (7, {"r:1": b"one"})
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA user_version").fetchall() == [(ours,)]
    assert ours > 1


def test_a_save_that_fails_changes_nothing(file: CheckpointFile) -> None:
    _save(file, 1, {"r:1": b"one"})
    with pytest.raises(TypeError):
        _save(file, 2, {"r:1": b"two", "r:2": None})  # type: ignore[dict-item]  # the fault
    loaded = file.load()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (1, {"r:1": b"one"})


def test_portions_count_together_with_the_save_that_ends_them(file: CheckpointFile, path: Path) -> None:
    _save(file, 1, {"r:1": b"one", "r:2": b"two"})
    file.put({"r:3": b"three"}, ["r:1"])
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT id FROM workflow").fetchall() == [("r:1",), ("r:2",)]
    file.put({"r:1": b"one again"}, ["r:2"])
    file.save(offset=2, epoch_tokens=b"", meta=b"")
    loaded = file.load()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (2, {"r:1": b"one again", "r:3": b"three"})


def test_portions_that_no_save_ended_are_dropped(file: CheckpointFile, path: Path) -> None:
    _save(file, 1, {"r:1": b"one"})
    file.put({"r:2": b"two"}, [])
    loaded = file.load()  # as a new owner of the partition does
    assert loaded is not None
    assert loaded.workflows == {"r:1": b"one"}
    file.put({"r:3": b"three"}, [])
    file.close()  # as the end of the process does
    again = CheckpointFile.open(path)
    loaded = again.load()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (1, {"r:1": b"one"})
    again.close()


def test_a_portion_that_fails_takes_those_before_it_along(file: CheckpointFile, path: Path) -> None:
    _save(file, 1, {"r:1": b"one"})
    file.put({"r:2": b"two"}, [])
    file._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(OperatorError, match=re.escape(f"cannot save the checkpoint {path}")):
        file.put({"r:3": b"three"}, [])
    file._connection.execute("PRAGMA query_only = OFF")
    _save(file, 2, {"r:4": b"four"})
    loaded = file.load()
    assert loaded is not None
    assert (loaded.offset, loaded.workflows) == (2, {"r:1": b"one", "r:4": b"four"})


def test_delete_removes_all_of_its_files(file: CheckpointFile, path: Path) -> None:
    _save(file, 1, {})
    file.delete()
    assert list(path.parent.iterdir()) == []


def test_a_deleted_checkpoint_holds_nothing_and_can_be_saved_anew(file: CheckpointFile, path: Path) -> None:
    _save(file, 1, {"r:1": b"one"})
    file.delete()
    assert file.load() is None
    _save(file, 2, {"r:2": b"two"})
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


DAMAGES = [_garbage, _cut, _foreign, _newer, _flipped_state, _flipped_head]


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".older")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_trusted_is_replaced_by_its_older_copy(
    path: Path, damage: Callable[[Path], None]
) -> None:
    file = CheckpointFile.open(path)
    _save(file, 7, {"r:1": b"the state of one", "r:2": b"two"}, [], epoch_tokens=b"e", meta=b"m")
    file.close()
    copied = _older(path).read_bytes()
    file = CheckpointFile.open(path)
    _save(file, 8, {"r:2": b"two again"}, ["r:1"])
    file._older.wait()
    file._close()  # as if it was killed
    _older(path).write_bytes(copied)  # so that the copy is older than the file
    _flip(path) if damage is _flipped_state else damage(path)
    with capture_logs() as logs:
        file = CheckpointFile.open(path)
        loaded = file.load()
    assert loaded == Checkpoint(
        offset=7, epoch_tokens=b"e", meta=b"m", workflows={"r:1": b"the state of one", "r:2": b"two"}
    )
    assert [(line["event"], line["log_level"]) for line in logs] == [("checkpoint_replaced", "warning")]
    # what is saved from here on is on top of what was loaded
    _save(file, 9, {"r:3": b"three"}, ["r:2"])
    file.close()
    again = CheckpointFile.open(path)
    assert again.load() == Checkpoint(
        offset=9, epoch_tokens=b"", meta=b"", workflows={"r:1": b"the state of one", "r:3": b"three"}
    )
    again.close()


def _flip(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE workflow SET state = x'00'")


@pytest.mark.parametrize("damage", [_flip, _flipped_head])
def test_damage_is_never_copied_over_a_good_copy(path: Path, damage: Callable[[Path], None]) -> None:
    file = CheckpointFile.open(path)
    _save(file, 7, {"r:1": b"one"})
    file.close()
    good = _older(path).read_bytes()
    file = CheckpointFile.open(path)
    file.put({"r:2": b"two"}, [])
    file.save(offset=8, epoch_tokens=b"", meta=b"")
    file._older.wait()
    _older(path).write_bytes(good)
    damage(path)
    with capture_logs() as logs:
        file._older._is_stale = True
        file.close()
    assert [line["event"] for line in logs] == ["checkpoint_not_copied"]
    assert _older(path).read_bytes() == good
    assert sorted(one.name for one in path.parent.iterdir() if "older" in one.name) == [_older(path).name]


def test_the_first_save_makes_no_copy_yet(file: CheckpointFile, path: Path) -> None:
    _save(file, 7, {"r:1": b"one"}, [])
    assert file._older._copying is None
    file.close()
    assert _older(path).exists()


def test_what_was_saved_last_is_copied_at_the_close_and_a_deleted_file_is_not(path: Path) -> None:
    file = CheckpointFile.open(path)
    for offset in range(1, 5):
        _save(file, offset, {f"r:{offset}": b"x"})
    file.close()
    _garbage(path)
    file = CheckpointFile.open(path)
    loaded = file.load()
    assert loaded is not None
    assert (loaded.offset, len(loaded.workflows)) == (4, 4)
    file.delete()
    assert list(path.parent.iterdir()) == []
    file.close()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("copy", [None, *DAMAGES])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_trusted_counts_as_absent_where_it_has_no_good_copy(
    path: Path, damage: Callable[[Path], None], copy: Callable[[Path], None] | None
) -> None:
    file = CheckpointFile.open(path)
    _save(file, 7, {"r:1": b"the state of one"}, [], epoch_tokens=b"e", meta=b"m")
    file.close()
    damage(path)
    if copy is None:
        _older(path).unlink()
    else:
        copy(_older(path))
    with capture_logs() as logs:
        file = CheckpointFile.open(path)
        assert file.load() is None
    told = [("checkpoint_replaced", "warning")] * (1 if copy is None else 2)
    assert [(line["event"], line["log_level"]) for line in logs] == told
    _save(file, 8, {"r:2": b"two"})
    file.close()
    again = CheckpointFile.open(path)
    assert again.load() == Checkpoint(offset=8, epoch_tokens=b"", meta=b"", workflows={"r:2": b"two"})
    again.close()


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"file/x\.checkpoint"):
        CheckpointFile.open(tmp_path / "file" / "x.checkpoint")


def test_a_deleted_checkpoint_that_cannot_be_made_anew_is_named(file: CheckpointFile, path: Path) -> None:
    file.delete()
    path.parent.rmdir()
    path.parent.write_text("")
    with pytest.raises(OperatorError, match=re.escape(f"cannot save the checkpoint {path}")):
        file.put({"r:1": b"one"}, [])
    path.parent.unlink()
    path.parent.mkdir()
    _save(file, 1, {"r:1": b"one"})
    loaded = file.load()
    assert loaded is not None
    assert loaded.workflows == {"r:1": b"one"}


def test_a_deleted_checkpoint_whose_folder_is_gone_is_named(file: CheckpointFile, path: Path) -> None:
    file.delete()
    path.parent.rmdir()
    with pytest.raises(OperatorError, match=re.escape(f"cannot save the checkpoint {path}")):
        file.put({"r:1": b"one"}, [])
