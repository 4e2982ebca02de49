"""A real Apache Kafka for tests: one broker for the whole run, fresh names for each test.

A pytest plugin, loaded by `tests/conftest.py`. Tests that use `kafka` (or `new_kafka`) carry the marker `kafka`; without Java or Maven
they skip with one line that says what to install, and with `MESH_REQUIRE_KAFKA=1` they fail instead.
"""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # for `infra`, which is not part of the package

from infra.kafka.kafka import KafkaMissing, KafkaProcess  # noqa: E402 - needs the path above

__all__ = ["kafka", "kafka_prefix", "new_kafka"]

_FIXTURES = {"kafka", "new_kafka"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("kafka")


def start_kafka(process: KafkaProcess) -> KafkaProcess:
    """Start it; where something has to be installed first: skip, or fail under `MESH_REQUIRE_KAFKA=1`."""
    try:
        return process.start()
    except KafkaMissing as error:
        if os.environ.get("MESH_REQUIRE_KAFKA") == "1":
            pytest.fail(f"MESH_REQUIRE_KAFKA=1, and {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaProcess]:
    """The run's broker. Tests share it, so they must not kill it: those take `new_kafka`."""
    process = start_kafka(KafkaProcess(tmp_path_factory.mktemp("kafka")))
    yield process
    process.stop()


@pytest.fixture
def new_kafka(tmp_path: Path) -> Iterator[Callable[[], KafkaProcess]]:
    """Starts brokers of the test's own, to be killed and restarted."""
    started: list[KafkaProcess] = []

    def start() -> KafkaProcess:
        process = start_kafka(KafkaProcess(tmp_path / f"kafka-{len(started)}"))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def kafka_prefix() -> str:
    """A prefix for topics and groups that no other test has."""
    return f"t{secrets.token_hex(6)}."
