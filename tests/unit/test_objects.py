"""The archive and exports in an object store: through obstore, in memory and on a small S3."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import Objects, object_store
from obstore.store import MemoryStore
from one_partition import Partition, agent, route
from test_archive import GONE, LIVE, forgotten, model_of
from test_cli import call, call_json
from told_mesh import ToldPartition, write

from mesh.adapters.files import FolderFiles
from mesh.adapters.objects import ObjectFiles
from mesh.errors import NotFound, OperatorError
from mesh.inspection.history.archive import Archive
from mesh.inspection.history.archiving import archive_forgotten
from mesh.ports import FileStore
from mesh.wiring.files import open_archive, read_here, written

URL = "s3://backups/shop"


@pytest.fixture
def objects() -> Iterator[Objects]:
    with object_store() as made:
        yield made


@pytest.fixture(params=["folder", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    match request.param:
        case "folder":
            return FolderFiles(tmp_path / "files")
        case "memory":
            return ObjectFiles(MemoryStore(), "memory://")
        case _:
            request.getfixturevalue("objects")
            return ObjectFiles.at(URL)


def test_a_file_is_written_once_and_read_in_pieces(files: FileStore) -> None:
    assert files.names() == []
    assert files.create("2.gz", b"second")
    assert files.create("1.gz", b"hello world")
    assert not files.create("1.gz", b"other")
    files.tidy()
    assert files.names() == ["1.gz", "2.gz"]
    assert files.read("1.gz") == b"hello world"
    assert files.read("1.gz", 6, 3) == b"wor"
    with pytest.raises(NotFound, match=r"3\.gz is not there"):
        files.read("3.gz")


def archived(files: FileStore, cache: Path, made: Partition) -> int:
    with Archive(files, cache, writes=True, is_cached=True) as archive:
        return sum(archive_forgotten(model_of(made), archive, batch=2))


def test_two_machines_archive_to_one_store_and_each_workflow_counts_once(tmp_path: Path) -> None:
    files, made = ObjectFiles(MemoryStore(), "memory://"), forgotten(Partition(route({"a": agent()})))
    with Archive(files, tmp_path / "slow", writes=True, is_cached=True) as slow:
        # another one is quicker, and has the name that comes next
        assert archived(files, tmp_path / "quick", made) == len(GONE)
        assert sum(archive_forgotten(model_of(made), slow, batch=2)) == len(GONE)
    assert len(files.names()) == 6
    for cache in ("slow", "quick", "a third"):
        with Archive(files, tmp_path / cache, is_cached=True) as archive:
            assert [len(archive.parts(made.id_of(key))) for key in GONE] == [1] * len(GONE)
    # who comes later finds all of it there
    assert archived(files, tmp_path / "later", made) == len(GONE)
    assert len(files.names()) == 6


def test_a_person_archives_to_an_object_store_and_finds_it_there(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MESH_ARCHIVE_DIR", f"{URL}/archive")
    made = forgotten(ToldPartition(route({"a": agent()})))
    write(tmp_path, made)
    before = call_json("workflow", made.id_of(GONE[0]))
    assert call_json("archive", "run") == {"archived": len(GONE)}
    assert list(objects.content) == ["shop/archive/000000001.jsonl.gz"]
    after = call_json("workflow", made.id_of(GONE[0]))
    assert after.pop("archived") == ["000000001.jsonl.gz"]
    assert after == before
    assert call_json("archive", "verify") == {"whole": len(GONE)}
    objects.refuses = True
    denied = " ".join(call("workflow", made.id_of(GONE[0])).stderr.split())
    assert "does not let us in at s3://backups/shop/archive" in denied
    assert "check the credentials" in denied
    # what runs is shown all the same
    assert call_json("workflow", made.id_of(LIVE))["workflow"]["status"] == "running"


def test_a_log_goes_to_an_object_store_and_comes_back(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    write(tmp_path, forgotten(ToldPartition(route({"a": agent()}))))
    assert call_json("log", "export", f"{URL}/log.gz")["file"] == f"{URL}/log.gz"
    assert "is there already" in call("log", "export", f"{URL}/log.gz").stderr
    folded = call_json("log", "verify", "--file", f"{URL}/log.gz")
    assert folded["workflows"] == call_json("log", "verify")["workflows"]
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/other.db")
    assert call_json("log", "import", f"{URL}/log.gz", "--leave-unread")["workflows"] == len(folded["workflows"])
    assert "is not there" in call("log", "import", f"{URL}/other.gz").stderr


def test_a_large_file_goes_in_parts(objects: Objects, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000
    with written(f"{URL}/large.gz") as path:
        path.write_bytes(content)
    assert objects.content["shop/large.gz"] == content
    with read_here(f"{URL}/large.gz") as path:
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("ftp://host/archive", "no place for files: name a path, or a URL with s3://, gs://, az:// or file://"),
        ("s3://nobody/archive", "There is no bucket nobody"),
        ("az://container", "can't be used: .*Account must be specified; check the URL"),
    ],
)
def test_a_place_that_can_not_be_used_is_named(objects: Objects, tmp_path: Path, place: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        open_archive(place, tmp_path)


def test_a_file_needs_a_name_and_a_path_may_be_a_url(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="names no file"), written("s3://"):
        raise AssertionError
    with written(f"file://{tmp_path}/a%20b.gz") as path:
        assert path == tmp_path / "a b.gz"
    with pytest.raises(NotFound, match="there is no file"), read_here(str(tmp_path / "nosuch")):
        raise AssertionError


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mesh.adapters.objects")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(OperatorError, match=r"pip install 'agent-mesh\[objects\]'"):
        open_archive("s3://backups/archive", tmp_path)
