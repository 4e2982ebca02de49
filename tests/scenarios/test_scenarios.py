"""Every scenario on every broker, against one golden file: in memory and virtual time, on SQLite, and on a real Kafka. `--regen` writes the files, from the run in memory."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from secrets import token_hex

import pytest
from scenario_table import SCENARIOS

from mesh.testing import MeshKit

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
AT_ONCE = 6  # scenarios on Kafka: most of a run is waiting for the groups to form

for file in sorted(HERE.glob("scenarios_*.py")):
    import_module(file.stem)


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
        f"{path} is not what happened: `pytest {__file__} --regen` writes it anew; review its diff"
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_memory(name: str, regen: bool) -> None:
    text = played(name)
    if regen:
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / f"{name}.txt").write_text(text)
    check(name, text)


@pytest.mark.parametrize("name", SCENARIOS)
def test_on_sqlite(name: str, tmp_path: Path) -> None:
    check(name, played(name, broker=f"sqlite://{tmp_path}/mesh.db"))


@pytest.fixture(scope="module")
def on_kafka(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[str]]]:
    """The transcripts of those scenarios whose tests were chosen, all begun at once, each under a prefix of its own."""
    broker = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_on_kafka
    ]

    def play(name: str) -> str:
        return played(name, broker=broker, prefix=f"s{token_hex(4)}.")

    with ThreadPoolExecutor(AT_ONCE, "scenario") as threads:
        yield {name: threads.submit(play, name) for name in chosen}


@pytest.mark.kafka
@pytest.mark.parametrize("name", SCENARIOS)
def test_on_kafka(name: str, on_kafka: Mapping[str, Future[str]]) -> None:
    check(name, on_kafka[name].result())


def test_every_golden_file_has_its_scenario() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SCENARIOS)
