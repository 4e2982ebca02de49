"""What is at the other end of a command's output: closed, full, narrow, or of few characters.

It is a line, or nothing; no command ends with a traceback for it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

GENEROUS_S = 120
COMMANDS = (["--help"], ["routes", "schema"], ["workflows", "list"], ["completion", "bash"], ["no-such-command"])


def shell(folder: Path, arguments: list[str], redirect: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f'"$0" -m mesh.cli "$@" {redirect}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, *arguments],
        env={"PATH": "/usr/bin:/bin", "MESH_DATA_DIR": str(folder), "MESH_BROKER": f"sqlite://{folder}/mesh.db"}
        | environment,
        cwd=folder,
        capture_output=True,
        timeout=GENEROUS_S,
        check=False,
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("redirect", ["| head -1", ">&-", "2>&-", "<&-", "<&- >&- 2>&-", ">/dev/full"])
def test_an_output_that_cannot_be_written_gives_no_traceback(
    tmp_path: Path, arguments: list[str], redirect: str
) -> None:
    done = shell(tmp_path, arguments, redirect)
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 4
    if redirect == ">/dev/full" and arguments[0] in ("--help", "routes"):
        assert done.returncode == 2
        assert b"No space left on device" in done.stderr


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "20"}]
)
def test_a_narrow_terminal_and_one_of_few_characters_get_their_help(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = shell(tmp_path, ["workflows", "--help"], "", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"list" in done.stdout
