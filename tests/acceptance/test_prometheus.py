"""A real Prometheus scrapes a real mesh: an alert fires in it, and stops when its cause is gone.

The rules are ours, but for how long a cause has to last. Without Debian's package `prometheus` the
test is skipped.
"""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mesh_processes import MeshProcesses, Process

from infra.kafka.kafka import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "infra" / "observability" / "alerts.yml"
STARTS = 5  # a free port may be taken before Prometheus has it
ROUTE = """\
route: seen
on: {type: test.seen}
key: ${{ event.subject }}
steps:
  check: {agent: moody, input: "${{ event.data }}", retry: {attempts: 1}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not there: apt-get install prometheus"
    ),
]


class Prometheus:
    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"
        self.log = log

    def get(self, path: str) -> Any:
        """What it answers; None while it does not."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=60) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def query(self, expression: str) -> list[Any]:
        answer = self.get(f"/api/v1/query?query={quote(expression)}")
        found: list[Any] = json.loads(answer)["data"]["result"] if answer else []
        return found

    def firing(self) -> set[str]:
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}


def port_of(process: Process) -> int | None:
    """Where a process serves its metrics; None: it does not yet."""
    found = re.search(r'"address": "127\.0\.0\.1:(\d+)".*metrics_served', process.text())
    return None if found is None else int(found[1])


def write_config(folder: Path, ports: list[int]) -> Path:
    """Scrape these ports each second; a cause has to last no time until its alert fires."""
    (folder / "alerts.yml").write_text(re.sub(r"\bfor: \w+", "for: 0s", RULES.read_text()))
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [alerts.yml]\n"
        f"scrape_configs: [{{job_name: mesh, static_configs: [{{targets: [{targets}]}}]}}]\n"
    )
    return config


def start(config: Path, port: int) -> Prometheus:
    folder = config.parent
    log = folder / "prometheus.log"
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["prometheus", *arguments, f"--web.listen-address=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Prometheus(process, port, log)


@contextmanager
def ended(prometheus: Prometheus) -> Iterator[Prometheus]:
    try:
        yield prometheus
    finally:
        prometheus.process.kill()
        prometheus.process.wait()


@contextmanager
def prometheus_of(mesh: MeshProcesses, ports: list[int]) -> Iterator[Prometheus]:
    config = write_config(mesh.folder, ports)
    for _ in range(STARTS):
        with ended(start(config, free_port())) as one:
            while one.process.poll() is None and one.get("/-/ready") is None:
                with suppress(subprocess.TimeoutExpired):
                    one.process.wait(0.1)
            if one.process.poll() is None:
                yield one
                return
    pytest.fail(f"Prometheus did not start: {one.log.read_text()[-3000:]}")


async def test_an_alert_fires_in_a_real_prometheus_and_stops_when_the_cause_is_gone(sqlite_mesh: MeshProcesses) -> None:
    mesh = sqlite_mesh
    (mesh.routes / "seen.yaml").write_text(ROUTE)
    await mesh.make_topics("moody")
    on = {"MESH_METRICS": "prometheus", "MESH_METRICS_ADDRESS": "127.0.0.1:0"}
    router = mesh.router(**on)
    agent = mesh.agent("moody_agents", MOOD="bad", SLOW_FOLDER=str(mesh.folder), **on)

    async def both_serve() -> bool:
        return port_of(router) is not None and port_of(agent) is not None

    await mesh.wait_until("both serve metrics", both_serve)
    ports = [port for port in (port_of(router), port_of(agent)) if port is not None]
    with prometheus_of(mesh, ports) as prometheus:

        async def all_is_well() -> bool:
            """Both are scraped, the router owns all partitions, and nothing of ours fires."""
            up = prometheus.query('count(up{job="mesh"} == 1)')
            owned = prometheus.query("sum(mesh_partitions_owned) == max(mesh_partitions_configured)")
            return (
                bool(up) and up[0]["value"][1] == "2" and bool(owned) and "MeshIncidentsOpen" not in prometheus.firing()
            )

        await mesh.wait_until("Prometheus sees a mesh that is well", all_is_well)
        async with await mesh.client() as client:
            await client.publish({"type": "test.seen", "source": "/seen", "subject": "1", "data": {"n": 1}})

        async def fires() -> bool:
            return "MeshIncidentsOpen" in prometheus.firing()

        await mesh.wait_until("the alert fires", fires)
        assert prometheus.query("mesh_incidents_open")[0]["metric"]["mesh_route"] == "seen"
        await mesh.cli("workflows", "cancel", "seen:1", "--reason", "test")

        async def is_over() -> bool:
            known = prometheus.query("sum(mesh_incidents_open) == 0")
            return bool(known) and "MeshIncidentsOpen" not in prometheus.firing()

        await mesh.wait_until("the alert is over", is_over)
    for process in mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]
