"""The wheel: `mesh` is the only import name that it owns.

It brings what a checkout has beside the package.
"""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
TOPICS = ROOT / "topics"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation would put into site-packages.

    Beside it is an `agents` of another distribution.
    """
    built, site = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built], cwd=ROOT, check=True)
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    other = site / "agents" / "__init__.py"
    assert not other.exists()
    other.parent.mkdir()
    other.write_text("class Runner: ...\n")
    return site


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, from which the checkout is not found."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_it_owns_one_import_name(site: Path) -> None:
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"mesh", "agents"}
    assert [path.name for path in (site / "agents").iterdir()] == ["__init__.py"]


def test_it_has_the_topics_contracts(site: Path) -> None:
    theirs = {
        path.relative_to(TOPICS): path.read_text() for path in TOPICS.rglob("*") if path.suffix in {".yaml", ".json"}
    }
    assert {
        path.relative_to(site / "mesh" / "topics"): path.read_text()
        for path in (site / "mesh" / "topics").rglob("*")
        if path.is_file()
    } == theirs


def test_it_reads_the_contracts_where_it_is_installed(site: Path, folder: Path) -> None:
    where = python(site, "-c", "from mesh.services.topic_plan import CONTRACTS; print(CONTRACTS)")
    assert where.stdout.strip() == str(site / "mesh" / "topics")
    assert python(site, "-m", "mesh.cli", "topics", "apply").returncode == 0
    assert python(site, "-m", "mesh.cli", "topics", "plan").returncode == 0


def test_its_examples_are_below_it_and_leave_the_name_agents_alone(site: Path, folder: Path) -> None:
    code = "from agents import Runner; import mesh.examples.issue_triage.publisher as one; print(one.__file__)"
    assert python(site, "-c", code).stdout.strip().startswith(str(site / "mesh" / "examples"))


@pytest.mark.slow
def test_the_demo_runs_from_it(site: Path, folder: Path) -> None:
    played = python(site, "-m", "mesh.cli", "demo", "--yes", "--json")
    assert played.returncode == 0, played.stdout + played.stderr
