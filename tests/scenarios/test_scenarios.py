"""Every scenario on every broker, against one golden file.

In memory and virtual time, on SQLite, and on a real Kafka. `--regen` writes the files, from the run
in memory.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from secrets import token_hex

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from scenario_table import LONG, SCENARIOS, Scenario

from infra.kafka.kafka import KafkaProcess
from mesh.codec.approvals import decode_receipt
from mesh.testing import MeshKit

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
AT_ONCE = 6
APPROVALS = HERE.parents[1] / "docs" / "approvals.md"
NOT_SHOWN = {
    "failed": "a router must have an error of its own: tests/unit/test_receipts.py",
    "poison": "routers must die on the answer: tests/unit/test_receipts.py",
    "superseded": "a broker has answers in the order of their times: tests/unit/test_decide_voting.py",
    "unreadable": "the broker's record must be damaged: tests/integration/test_kafka_foreign_batches.py",
}
"""Codes of receipts that no scenario can have, and why."""
Played = Mapping[str, Future[str]]

for file in sorted(HERE.glob("scenarios_*.py")):
    import_module(file.stem)

SHORT = [name for name in SCENARIOS if name not in LONG]


def played(name: str, *, broker: str | None = None, prefix: str = "mesh.") -> str:
    """The transcript of a scenario, without what differs between brokers."""
    with MeshKit(title=name.replace("-", " ").capitalize(), broker=broker, topic_prefix=prefix) as mesh:
        mesh.note(" ".join((SCENARIOS[name].__doc__ or "").split()))
        SCENARIOS[name](mesh)
        return mesh.transcript(times=False)


def check(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    assert path.exists(), (
        f"{path} is not there yet: `pytest {__file__} --regen` writes it; read it before you commit it"
    )
    assert text == path.read_text(), (
        f"{path} is not what happened: `pytest {__file__} --regen` rewrites it; review its diff"
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_memory(name: str, regen: bool) -> None:
    text = played(name)
    if regen:
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / f"{name}.txt").write_text(text)
    check(name, text)


def chosen(request: pytest.FixtureRequest, test: Callable[..., None]) -> list[str]:
    """The scenarios whose tests will run."""
    return [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test and not item.get_closest_marker("skip")
    ]


def begun(names: list[str], play: Callable[[str], str]) -> Iterator[Played]:
    """The transcripts of these scenarios, all begun at once.

    Most of a run in real time is waiting.
    """
    with ThreadPoolExecutor(AT_ONCE, "scenario") as threads:
        yield {name: threads.submit(play, name) for name in names}


@pytest.fixture(scope="module")
def play_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("scenarios")
    return lambda name: played(name, broker=f"sqlite://{folder}/{name}.db")


async def forget(bootstrap: str, prefix: str) -> None:
    """Delete the topics of a scenario that is over.

    Every client hears of all topics that the broker has, again and again.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(prefix)])
    finally:
        await admin.close()


@pytest.fixture(scope="module")
def play_on_kafka(kafka: KafkaProcess) -> Callable[[str], str]:
    """Each under a prefix of its own."""

    def play(name: str) -> str:
        prefix = f"s{token_hex(4)}."
        try:
            return played(name, broker=f"kafka://{kafka.bootstrap}", prefix=prefix)
        finally:
            asyncio.run(forget(kafka.bootstrap, prefix))

    return play


@pytest.fixture(scope="module", autouse=True)
def long_on_sqlite(request: pytest.FixtureRequest) -> Iterator[Played]:
    """Begun before all others, which are done while these wait."""
    names = chosen(request, test_long_on_sqlite)
    yield from begun(names, request.getfixturevalue("play_on_sqlite") if names else played)


@pytest.fixture(scope="module", autouse=True)
def long_on_kafka(request: pytest.FixtureRequest) -> Iterator[Played]:
    names = chosen(request, test_long_on_kafka)
    yield from begun(names, request.getfixturevalue("play_on_kafka") if names else played)


@pytest.fixture(scope="module")
def on_sqlite(request: pytest.FixtureRequest, play_on_sqlite: Callable[[str], str]) -> Iterator[Played]:
    yield from begun(chosen(request, test_on_sqlite), play_on_sqlite)


@pytest.fixture(scope="module")
def on_kafka(request: pytest.FixtureRequest, play_on_kafka: Callable[[str], str]) -> Iterator[Played]:
    yield from begun(chosen(request, test_on_kafka), play_on_kafka)


@pytest.mark.parametrize("name", SHORT)
def test_on_sqlite(name: str, on_sqlite: Played) -> None:
    check(name, on_sqlite[name].result())


@pytest.mark.kafka
@pytest.mark.parametrize("name", SHORT)
def test_on_kafka(name: str, on_kafka: Played) -> None:
    check(name, on_kafka[name].result())


@pytest.mark.parametrize("name", LONG)
def test_long_on_sqlite(name: str, long_on_sqlite: Played) -> None:
    check(name, long_on_sqlite[name].result())


@pytest.mark.kafka
@pytest.mark.parametrize("name", LONG)
def test_long_on_kafka(name: str, long_on_kafka: Played) -> None:
    check(name, long_on_kafka[name].result())


def test_every_golden_file_has_its_scenario() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SCENARIOS)


def documented() -> set[str]:
    """The codes on the page: those of its table, and those of the text above it."""
    page = APPROVALS.read_text()
    section = page[page.index("\n## Receipts") : page.index("\n## Notifications")]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = section[section.index("An answer that is accepted has the code") : section.index("codes of a refusal")]
    return set(re.findall(r"`(\w+)`", " ".join([*rows, listed])))


def codes_in(play: Scenario) -> set[str]:
    with MeshKit() as mesh:
        play(mesh)
        receipts = [one for one in mesh.stage.receipt_records if one.topic == mesh.stage.topics.receipts]
        return {decode_receipt(one).code for one in receipts}


def test_every_code_of_a_receipt_is_in_a_scenario() -> None:
    found = set[str]().union(*map(codes_in, SCENARIOS.values()))
    assert found == documented() - NOT_SHOWN.keys()
    assert found.isdisjoint(NOT_SHOWN)


def test_every_rule_of_approvals_names_its_scenario() -> None:
    """The page lists the scenarios of approvals, and none that is not there."""
    page = APPROVALS.read_text()
    section = page[page.index("\n### Rules and their scenarios") : page.index("\n### Speed")]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ") and "`" in line]
    listed = set(re.findall(r"`([a-z-]+)`", " ".join(rows)))
    of_approvals = {"scenarios_approvals", "scenarios_answers"}
    expected = {name for name, play in SCENARIOS.items() if play.__module__ in of_approvals}
    assert expected <= listed <= set(SCENARIOS)
