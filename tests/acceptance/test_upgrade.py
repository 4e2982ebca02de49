"""Two versions of the code side by side under load: an upgrade, one process at a time, and back.

The older code is a commit of this repository's own history, taken by `git archive`, and runs with
the dependencies of now. In a shallow clone, which has no such commit, the tests are skipped.
docs/upgrading.md says what follows for operators.
"""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from log_checker import check_inputs, gather
from mesh_processes import MeshProcesses, Process

ROOT = Path(__file__).parents[2]
OLDER = "ad3a92bd7b11"
"""The last commit before approvals of several people, signed answers and the notifier."""
EACH = 20  # workflows that begin in each phase
ROUTE = """\
route: moved
on: {type: test.moved}
key: ${{ event.subject }}
steps:
  draft: {agent: drafter, input: "${{ event.data }}"}
  check: {needs: draft, agent: moody, input: "${{ event.data }}"}
"""

pytestmark = pytest.mark.slow


def git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with the package as it was."""
    packed = git("archive", OLDER, "mesh", "topics")
    if packed.returncode:
        pytest.skip(f"this clone has no commit {OLDER}: it is shallow, or not a clone")
    folder = tmp_path / "older"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def env_of(code: Path) -> dict[str, str]:
    """Run this code, and no other that lies in the working directory."""
    return {"PYTHONPATH": os.pathsep.join([str(code), str(ROOT / "tests")]), "PYTHONSAFEPATH": "1", "MOOD": "good"}


def code_of(code: Path) -> Path:
    """Where a process that is to run this code finds it."""
    command = [sys.executable, "-c", "import mesh; print(mesh.__file__)"]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | env_of(code), capture_output=True, text=True, check=True)
    return Path(ran.stdout.strip()).parents[1]


class Upgrade:
    """A mesh whose processes run either code, and that gets workflows to do in each phase."""

    def __init__(self, mesh: MeshProcesses) -> None:
        self._mesh = mesh
        self._began = 0

    def start(self, code: Path) -> list[Process]:
        """A router and an agent, at work."""
        routers, agents = self._mesh.router(**env_of(code)), self._mesh.agent("moody_agents", **env_of(code))
        for process in (routers, agents):
            process.wait_started()
        return [routers, agents]

    async def begin(self) -> None:
        async with await self._mesh.client() as client:
            for number in range(self._began, self._began + EACH):
                event = {"type": "test.moved", "source": "/moved", "subject": str(number), "data": {"n": number}}
                await client.publish(event)
        self._began += EACH

    async def stop(self, processes: list[Process]) -> None:
        """Stop them in good order, with work under way."""
        for process in processes:
            assert process.stop() == 0, process.text()[-3000:]

    async def check(self) -> None:
        """Nothing is lost, and each step has one result, as the code of now reads it."""
        outcomes = await self._mesh.wait_outcomes(self._began)
        assert {outcome.status for outcome in outcomes.values()} == {"completed"}
        async with self._mesh.broker() as broker:
            evidence = await gather(broker, self._mesh.topics)
        check_inputs(evidence, [f"moved:{number}" for number in range(self._began)])
        assert evidence.findings == []


async def test_an_upgrade_and_its_rollback_lose_nothing(mesh: MeshProcesses, older: Path) -> None:
    (mesh.routes / "moved.yaml").write_text(ROUTE)
    await mesh.make_topics("drafter", "moody")
    assert code_of(older) == older
    assert code_of(ROOT) == ROOT
    upgrade = Upgrade(mesh)
    old = upgrade.start(older)
    await upgrade.begin()
    new = upgrade.start(ROOT)
    await upgrade.begin()
    await upgrade.stop(old)
    await upgrade.begin()
    await upgrade.check()
    back = upgrade.start(older)
    await upgrade.begin()
    await upgrade.stop(new)
    await upgrade.begin()
    await upgrade.check()
    await upgrade.stop(back)


ASKED = """\
route: asked
on: {type: test.asked}
key: ${{ event.subject }}
steps:
  review: {approval: {ask: Good?, payload: "${{ event.data }}", role: maintainer, quorum: 2, deadline: 2h}}
"""


async def test_older_code_stops_where_the_log_has_what_it_does_not_know(
    sqlite_mesh: MeshProcesses, older: Path
) -> None:
    """It must not go on by a checkpoint of newer code, without the terms that it does not know."""
    mesh = sqlite_mesh
    (mesh.routes / "asked.yaml").write_text(ASKED)
    mesh.approvers.write_text("maintainer: [ana@example.org, ben@example.org]\n")
    await mesh.make_topics()
    new = mesh.router()
    new.wait_started()
    async with await mesh.client() as client:
        await client.publish({"type": "test.asked", "source": "/asked", "subject": "1", "data": {"n": 1}})

    async def asked() -> bool:
        return bool((await mesh.json("approvals"))["approvals"])

    await mesh.wait_until("the approval is open", asked)
    assert new.stop() == 0  # with a checkpoint
    (mesh.routes / "asked.yaml").write_text(ROUTE)
    back = mesh.router(**env_of(older))

    async def has_ended() -> bool:
        return not back.is_alive

    await mesh.wait_until("the older router has ended", has_ended)
    assert "this version can't read the log record" in back.text()
    (mesh.routes / "asked.yaml").write_text(ASKED)
    again = mesh.router()
    again.wait_started()
    assert await asked()
    assert again.stop() == 0
