"""`mesh log export FILE`, `import` and `verify --file`, as a person runs them on SQLite."""

import gzip
import json
from pathlib import Path

import pytest
from test_cli import call, call_json, folder, sample  # noqa: F401 - fixtures

SAMPLE_UNREAD = "--leave-unread"  # nobody has committed for ingress there


def test_a_log_goes_from_one_file_to_another(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    before = call_json("log", "verify")
    said = call("log", "export", "log.gz")
    assert said.exit_code == 0, said.output
    assert "3 workflows of" in said.stderr
    assert call_json("log", "verify", "--file", "log.gz")["workflows"] == before["workflows"]
    timeline = call_json("workflows", "show", next(iter(before["workflows"])))

    monkeypatch.setenv("MESH_BROKER", f"sqlite://{sample}/other.db")
    done = call_json("log", "import", "log.gz", SAMPLE_UNREAD)
    assert done["workflows"] == len(before["workflows"])
    (sample / "before.json").write_text(json.dumps(before))
    assert call("log", "verify", "--against", "before.json").exit_code == 0
    assert call_json("workflows", "show", next(iter(before["workflows"]))) == timeline
    assert call_json("routes", "list")["versions"]


def test_inputs_that_stay_behind_must_be_left_by_name(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    said = call("log", "export", "log.gz")
    assert "not in it: inputs that nobody has decided on yet (" in said.stderr
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{sample}/other.db")
    refused = call("log", "import", "log.gz")
    assert refused.exit_code == 2
    assert "had not been decided" in refused.stderr
    assert not (sample / "other.db").exists()


def test_what_can_not_be_done_is_said(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert call("log", "export").exit_code == 2
    assert call("log", "export", "log.gz", "--workflow", "x").exit_code == 2
    assert call("log", "export", "log.gz").exit_code == 0
    for arguments, words in {
        ("export", "log.gz"): "is there already",
        ("export", "nowhere/log.gz"): "there is no folder",
        ("import", "log.gz", SAMPLE_UNREAD): "of this very mesh",
    }.items():
        assert words in call("log", *arguments).stderr
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{sample}/other.db")
    monkeypatch.setenv("MESH_TOPIC_PREFIX", "other.")
    assert "set MESH_TOPIC_PREFIX=mesh." in call("log", "import", "log.gz", SAMPLE_UNREAD).stderr
    (sample / "log.gz").write_bytes(gzip.compress(b"{}\n"))
    assert "line 1 is not as it was written" in call("log", "verify", "--file", "log.gz").stderr
