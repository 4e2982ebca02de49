"""The image is built, and runs routers and agents against a real Kafka as the chart says.

`make image-test` runs it. It needs what `engine.py` names, and is left out of `make test`: the
first build takes minutes.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import ROOT, Container, Engine, engine, missing
from log_checker import check_inputs, gather
from mesh_processes import MeshProcesses, mesh_processes

from infra.kafka.kafka import KafkaProcess

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from chart import load, named, render

pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.kafka]

IMAGE = "agent-mesh:local"
PROJECT = ROOT / "infra" / "agent-project"
COUNT = 40
REVIEW = """\
route: review
on: {type: test.review}
key: ${{ event.subject }}
steps:
  first:  {agent: plain-critic, input: "${{ event.data }}", timeout: 5m}
  second: {agent: plain-critic, needs: [first], input: "${{ event.data }}", timeout: 5m}
"""


@pytest.fixture(scope="module")
def images() -> Iterator[Engine]:
    """The mesh's image and that of the agent's own project, built."""
    if (absent := missing()) and os.environ.get("MESH_REQUIRE_IMAGE") != "1":
        pytest.skip(f"needs {', '.join(absent)}: apt-get install buildah podman runc mmdebstrap")
    with engine(Path(os.environ.get("MESH_IMAGE_DIR", ROOT / ".mesh" / "images")).resolve()) as one:
        one.build(f"localhost/{IMAGE}", ROOT, f"--build-arg=BASE={one.base()}")
        one.build("localhost/word-counter:local", PROJECT)
        yield one


class Cluster:
    """Runs what the chart renders, without Kubernetes: the same image, arguments and variables."""

    def __init__(self, images: Engine, mesh: MeshProcesses, kafka: KafkaProcess) -> None:
        self.images, self.mesh = images, mesh
        self.values: dict[str, Any] = {
            "image": IMAGE,
            "broker": f"kafka://{kafka.bootstrap}",
            "topicPrefix": mesh.prefix,
            "partitions": 4,
            "taskPartitions": 4,
            "replicas": 1,
            "strimzi": {"enabled": False, "cluster": ""},
            # one network for all: each port would be taken by the first
            "env": {"MESH_METRICS": "off", "MESH_CARD_INTERVAL_S": "1"},
            "agents": {"plain-critic": {"args": ["agent", "agents.document_review.agents"]}},
            "routes": {"review.yaml": REVIEW},
        }

    def run(self, kind: str, name: str) -> Container:
        """Start what the chart has under this name. A ConfigMap's files are mounted as it says."""
        resources = render(self.values)
        pod = named(resources, kind, f"shop-{name}")["spec"]["template"]["spec"]
        [container] = pod["containers"]
        mounts = []
        for volume in (one for one in pod["volumes"] if "configMap" in one):
            folder = self.mesh.folder / volume["configMap"]["name"]
            folder.mkdir(exist_ok=True)
            for file, text in named(resources, "ConfigMap", folder.name)["data"].items():
                (folder / file).write_text(text)
            [mount] = [one for one in container["volumeMounts"] if one["name"] == volume["name"]]
            mounts.append(f"{folder}:{mount['mountPath']}:ro")
        env = {one["name"]: one["value"] for one in container["env"]}
        place = f"{self.mesh.prefix.rstrip('.')}-{name}"
        return self.images.run(place, f"localhost/{container['image']}", container["args"], env, *mounts)

    def job(self, name: str) -> None:
        ran = self.run("Job", name)
        assert ran.wait_ended() == 0, ran.logs()

    def service(self, kind: str, name: str) -> Container:
        started = self.run(kind, name)
        started.wait_healthy()
        return started


@pytest.fixture
def mesh(kafka: KafkaProcess, kafka_prefix: str, tmp_path: Path) -> Iterator[MeshProcesses]:
    """The mesh as commands on this machine see it; its processes are containers."""
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path, prefix=kafka_prefix) as one:
        yield one


@pytest.fixture
def cluster(images: Engine, mesh: MeshProcesses, kafka: KafkaProcess) -> Cluster:
    return Cluster(images, mesh, kafka)


def test_the_image_is_what_its_file_says(images: Engine) -> None:
    config = json.loads(images.inspect(f"localhost/{IMAGE}", "{{json .Config}}"))
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["mesh"]
    assert config["StopSignal"] == "SIGTERM"
    checked = json.loads(images.inspect(f"localhost/{IMAGE}", "{{json .HealthCheck}}"))
    assert checked["Test"] == ["CMD", "mesh", "health"]
    assert json.loads(images.inspect("localhost/word-counter:local", "{{json .Config.Cmd}}")) == [
        "agent",
        "word_counter",
    ]


async def publish(mesh: MeshProcesses, kind: str, first: int, data: dict[str, Any]) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"type": kind, "source": "/image", "id": f"{kind}{n}", "subject": str(n), "data": data}
                for n in range(first, first + COUNT)
            ]
        )


async def test_nothing_is_lost_by_kills_and_an_agent_is_added_by_its_image_and_values(cluster: Cluster) -> None:
    mesh = cluster.mesh
    cluster.job("topics")
    cluster.job("routes")
    router = cluster.service("StatefulSet", "router")
    assert router.execute("id", "-u") == "10001"
    assert "Read-only file system" in router.execute("touch", "/opt/x")

    # No agent runs yet, so each workflow waits for its first step when the router dies.
    draft = {"text": "We utilise it.", "round": 1}
    await publish(mesh, "test.review", 0, draft)
    await mesh.wait_until("every workflow runs", lambda: _are_running(mesh, COUNT))
    router.kill()
    critic = cluster.service("Deployment", "agent-plain-critic")
    router.start()
    await mesh.wait_outcomes(1)
    # Some workflows have ended and others have not; more come. Both die.
    await publish(mesh, "test.review", COUNT, draft)
    critic.kill()
    router.kill()
    router.start()
    critic.start()
    router.wait_healthy()
    critic.wait_healthy()
    await mesh.wait_outcomes(2 * COUNT)

    cluster.values["agents"].update(load(PROJECT / "values.yaml")["agents"])
    cluster.values["routes"].update(load(PROJECT / "values.yaml")["routes"])
    cluster.job("topics")
    counter = cluster.service("Deployment", "agent-word-counter")
    cluster.job("routes")
    await publish(mesh, "com.example.text.written", 0, {"text": "one two three"})
    outcomes = await mesh.wait_outcomes(3 * COUNT)
    assert {outcome.status for outcome in outcomes.values()} == {"completed"}

    assert [one.stop() for one in (counter, critic, router)] == [0, 0, 0]
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    reviews = [f"review:{n}" for n in range(2 * COUNT)]
    check_inputs(evidence, [*reviews, *(f"count-words:{n}" for n in range(COUNT))])
    assert evidence.findings == []


async def _are_running(mesh: MeshProcesses, count: int) -> bool:
    """Whether so many workflows have begun."""
    found = await mesh.json("workflows", "--status", "running", "--limit", "1")
    return bool(found["total"] == count)
