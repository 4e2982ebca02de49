"""AsyncAPI's official parser reads topics/asyncapi.yaml, with every schema that it refers to.

Its packages are installed once, from tests/asyncapi/package-lock.json.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from node_packages import install

ROOT = Path(__file__).parents[2]
PARSER = ROOT / "tests" / "asyncapi"
TOPICS = ROOT / "topics"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js with npm"),
]


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    install(PARSER)


def parse(document: Path) -> dict[str, Any]:
    run = subprocess.run(
        ["node", "parse.mjs", document], cwd=PARSER, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    assert (run.returncode == 0) == (not found["errors"])
    return found


def test_the_official_parser_reads_the_document() -> None:
    found = parse(TOPICS / "asyncapi.yaml")
    assert found["errors"] == []
    assert {"event", "event-structured", "event-batch", "task", "result", "log-record"} <= set(found["messages"])


def test_the_parser_refuses_a_document_that_is_wrong(tmp_path: Path) -> None:
    shutil.copytree(TOPICS / "schemas", tmp_path / "schemas")
    text = (TOPICS / "asyncapi.yaml").read_text()
    wrong = tmp_path / "asyncapi.yaml"
    wrong.write_text(text.replace("action: send", "action: shout", 1))
    assert parse(wrong)["errors"]
