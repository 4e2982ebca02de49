"""A real Apache Kafka for tests: one broker for the whole run, fresh names for each test.

Owns the broker's life in a run. A pytest plugin, loaded by `tests/conftest.py`. Tests that use
`kafka` (or `new_kafka`) get the marker `kafka`. Without Java or Maven they skip with one line that
says what to install. With `MESH_REQUIRE_KAFKA=1` they fail instead.
"""

import os
import secrets
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # for `infra`, which is not part of the package

from infra.kafka.kafka import KafkaMissing, KafkaProcess, check_installed  # noqa: E402 - needs the path above

_FIXTURES = {"kafka", "new_kafka"}
# After a kill -9 a broker waits for its own old session: 11.6 s by default, 3.2 s with these. Other
# brokers keep the default: on a busy machine a broker with these is a second late, and out.
_BACK_SOON = {"broker.session.timeout.ms": "1500", "broker.heartbeat.interval.ms": "300"}
_REQUIRED = os.environ.get("MESH_REQUIRE_KAFKA") == "1"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    for item in _users(items):
        item.add_marker("kafka")  # before `-m` chooses
    yield
    users = _users(items)  # what it left
    absent = _absent() if users and not _REQUIRED else None
    for item in users if absent else ():
        item.add_marker(pytest.mark.skip(reason=absent or ""))


def _users(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests that need a broker: by fixture, or by marker, since a parameter may decide it."""
    return [
        item
        for item in items
        if item.get_closest_marker("kafka") or _FIXTURES.intersection(getattr(item, "fixturenames", ()))
    ]


def _absent() -> str | None:
    """What has to be installed first, in one line. None if nothing is missing."""
    try:
        check_installed()
    except KafkaMissing as error:
        return str(error)
    return None


def start_kafka(process: KafkaProcess) -> KafkaProcess:
    try:
        return process.start()
    except KafkaMissing as error:
        pytest.fail(f"MESH_REQUIRE_KAFKA=1, and {error}", pytrace=False)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaProcess]:
    """The run's broker. Tests share it and must not kill it: `new_kafka` is for that."""
    process = start_kafka(KafkaProcess(tmp_path_factory.mktemp("kafka"), is_brief=True))
    yield process
    process.stop()


@pytest.fixture
def new_kafka(tmp_path: Path) -> Iterator[Callable[[], KafkaProcess]]:
    """Starts brokers of the test's own, which it may kill and restart."""
    started: list[KafkaProcess] = []

    def start() -> KafkaProcess:
        process = start_kafka(KafkaProcess(tmp_path / f"kafka-{len(started)}", settings=_BACK_SOON, is_brief=True))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def kafka_prefix() -> str:
    """A prefix for topics and groups that no other test has."""
    return f"t{secrets.token_hex(6)}."
