"""`infra/kafka/kafka.py` as people run it.

Both signals end it in good order, and a folder has one broker.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.kafka import HERE, KafkaProcess, answers

GENEROUS_S = 120.0
pytestmark = pytest.mark.kafka


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, HERE / "kafka.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def script(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = KafkaProcess(tmp_path).port
    process = run("run", "--port", str(port), "--data", str(tmp_path))
    assert process.stdout is not None
    while "answers on" not in (line := process.stdout.readline()):
        assert line, "it ended at its start"
    yield process, port
    process.kill()
    process.wait(GENEROUS_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_good_order_and_a_second_on_its_folder_is_refused(
    script: tuple[subprocess.Popen[str], int], tmp_path: Path, number: signal.Signals
) -> None:
    process, port = script
    before = {name: (tmp_path / name).read_bytes() for name in ("server.properties", "kafka.pid")}
    said, _ = run("run", "--port", str(KafkaProcess(tmp_path).port), "--data", str(tmp_path)).communicate(
        timeout=GENEROUS_S
    )
    assert said.startswith(f"another Kafka runs on {tmp_path}")
    assert len(said.splitlines()) == 1
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    process.send_signal(number)
    said, _ = process.communicate(timeout=GENEROUS_S)
    assert (process.returncode, said) == (0, "stopping Kafka ...\n")
    assert not answers(port)
    assert not (tmp_path / "kafka.pid").exists()
