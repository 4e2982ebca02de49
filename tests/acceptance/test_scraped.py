"""A mesh of real processes whose endpoints are scraped: the metrics have what the run did."""

import re
import urllib.request
from collections.abc import Mapping

import pytest
from mesh_processes import MeshProcesses, Process
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow

ROUTE = """\
route: seen
on: {type: test.seen}
key: ${{ event.subject }}
steps:
  draft: {agent: drafter, input: "${{ event.data }}"}
  review:
    needs: draft
    approval: {ask: Good?, payload: "${{ steps.draft }}", role: maintainer, deadline: 2h}
  check: {needs: draft, agent: moody, input: "${{ event.data }}", retry: {attempts: 2, backoff: 0.1s}}
"""
Series = Mapping[frozenset[tuple[str, str]], float]


def scraped(process: Process) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """All series that a process serves; none before it serves."""
    # structlog's line of JSON; port 0 takes a free one
    found = re.search(r'"address": "127\.0\.0\.1:(\d+)".*metrics_served', process.text())
    if found is None:
        return {}
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    series: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return series


def one(series: Mapping[str, Series], name: str, **labels: str) -> float:
    """The sum of the series that have these labels."""
    return sum(value for key, value in series.get(name, {}).items() if labels.items() <= dict(key).items())


async def test_the_metrics_have_what_the_run_did(sqlite_mesh: MeshProcesses) -> None:
    mesh, count = sqlite_mesh, 5
    (mesh.routes / "seen.yaml").write_text(ROUTE)
    mesh.approvers.write_text("maintainer: [ana@example.org]\n")
    await mesh.make_topics("drafter", "moody")
    on = {"MESH_METRICS": "prometheus", "MESH_METRICS_ADDRESS": "127.0.0.1:0"}
    router = mesh.router(**on)
    agents = mesh.agent("moody_agents", MOOD="bad", SLOW_FOLDER=str(mesh.folder), **on)
    async with await mesh.client() as client:
        for number in range(count):
            event = {"type": "test.seen", "source": "/seen", "subject": str(number), "data": {"n": number}}
            await client.publish(event)
        await client.publish({"type": "test.other", "source": "/seen"})

    async def all_wait() -> bool:
        """Each workflow waits for a person, and has an incident."""
        now = scraped(router)
        waiting = one(now, "mesh_approvals_open") == one(now, "mesh_incidents_open") == count
        return waiting and one(now, "mesh_ingress_records_total", mesh_kind="unwanted") == 1

    await mesh.wait_until("all wait", all_wait)
    # nothing moves any more, so all series are of one moment
    seen = scraped(router)
    assert one(seen, "mesh_workflows_started_total", mesh_route="seen") == count
    assert one(seen, "mesh_ingress_records_total", mesh_kind="matched") == count
    assert one(seen, "mesh_decisions_total", mesh_kind="result") == 3 * count
    drafted = {"mesh_route": "seen", "mesh_step": "draft", "gen_ai_agent_name": "drafter"}
    assert one(seen, "mesh_step_attempts_total", **drafted) == count
    assert one(seen, "mesh_step_duration_seconds_count", error_type="", **drafted) == count
    assert one(seen, "mesh_step_duration_seconds_count", error_type="_OTHER", mesh_step="check") == 2 * count
    assert one(seen, "mesh_step_retries_total", mesh_step="check") == count
    assert one(seen, "mesh_incidents_raised_total", mesh_kind="exhausted") == count
    [deadline_s] = seen["mesh_approvals_deadline_seconds"].values()
    [now_s] = seen["mesh_sampled_at_seconds"].values()
    assert 0 < deadline_s - now_s <= 7_200
    assert one(seen, "mesh_partitions_owned") == one(seen, "mesh_takeovers_total") == mesh.settings().partitions
    assert {dict(key)["messaging_destination_name"] for key in seen["mesh_input_age_seconds"]} == {
        mesh.topics.results,
        mesh.topics.inbox,
    }

    async def agents_tell() -> bool:
        """What is sampled is up to a second late."""
        now = scraped(agents)
        failed = one(now, "mesh_agent_tasks_total", gen_ai_agent_name="moody", mesh_status="failed")
        return failed == 2 * count and one(now, "mesh_agent_running") == one(now, "mesh_agent_held") == 0

    await mesh.wait_until("the agents tell what they did", agents_tell)
    worked = scraped(agents)
    assert one(worked, "messaging_process_duration_seconds_count", gen_ai_agent_name="drafter", error_type="") == count
    assert one(worked, "mesh_agent_tasks_total", gen_ai_agent_name="drafter", mesh_status="succeeded") == count

    await mesh.cli("workflows", "cancel", "seen:0", "--reason", "test")

    async def one_is_gone() -> bool:
        now = scraped(router)
        return one(now, "mesh_approvals_open") == one(now, "mesh_incidents_open") == count - 1

    await mesh.wait_until("the cancelled one no longer waits", one_is_gone)
    ended = one(scraped(router), "mesh_workflows_ended_total", mesh_route="seen", mesh_status="cancelled")
    assert ended == 1
    for process in mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]
