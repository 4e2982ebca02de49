"""The numbers of a process: what is counted, and how Prometheus and OTLP get it."""

import asyncio
import re
import socket
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mesh.metrics import meters as module
from mesh.metrics import names
from mesh.metrics.earliest import Earliest
from mesh.metrics.metering import Metering
from mesh.metrics.meters import Meters
from mesh.metrics.otlp import Pusher
from mesh.metrics.prometheus import Endpoint, MetersCollector

RESOURCE = {"service.name": "mesh-router", "service.instance.id": "r1"}
PROMETHEUS_NAME = re.compile(r"[a-z][a-z0-9_]*")


# Names --------------------------------------------------------------------------------------------


def test_names_are_unique_also_in_prometheus() -> None:
    assert len({metric.name for metric in names.ALL}) == len(names.ALL)
    series = [name for metric in names.ALL for name in metric.series_names]
    assert len(set(series)) == len(series)
    assert all(PROMETHEUS_NAME.fullmatch(name) for name in series)


def test_every_metric_that_the_module_has_is_of_a_part() -> None:
    assert set(names.ALL) == {value for value in vars(names).values() if isinstance(value, names.Metric)}


@pytest.mark.parametrize("metric", names.ALL, ids=lambda metric: metric.name)
def test_attributes_and_buckets_are_known(metric: names.Metric) -> None:
    assert set(metric.attributes) <= names.ATTRIBUTES.keys()
    assert bool(metric.bounds) == (metric.kind == "histogram")
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert metric.name.split(".")[0] in {"mesh", "messaging", "gen_ai"}
    assert metric.meaning.endswith(".")


def test_every_attribute_is_used() -> None:
    assert {name for metric in names.ALL for name in metric.attributes} == names.ATTRIBUTES.keys()


def test_names_in_prometheus_follow_the_rules_of_opentelemetry() -> None:
    assert names.STEP_DURATION.prometheus_name == "mesh_step_duration_seconds"
    assert names.DECISIONS.prometheus_name == "mesh_decisions_total"
    assert names.APPROVALS_OPEN.prometheus_name == "mesh_approvals_open"
    assert names.PROCESS_DURATION.prometheus_name == "messaging_process_duration_seconds"


# Numbers ------------------------------------------------------------------------------------------


def filled() -> Meters:
    meters = Meters()
    meters.count(names.DECISIONS, ("event",), 3)
    meters.count(names.DECISIONS, ("event",))
    meters.put(names.APPROVALS_OPEN, {('a "b"\\',): 2})
    for took_s in (0.01, 0.02, 7_200.0):
        meters.observe(names.STEP_DURATION, ("r", "draft", "drafter", ""), took_s)
    return meters


def test_a_series_too_many_is_counted_under_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    meters = Meters()
    for number in range(10):
        meters.count(names.DECISIONS, (f"kind{number}",))
        meters.observe(names.STEP_DURATION, ("r", f"step{number}", "a", ""), 1.0)
    counted, measured = meters.snapshot()
    assert counted.values == {("kind0",): 1, ("kind1",): 1, ("_OTHER",): 8}
    assert sum(sum(one.counts) for one in measured.distributions.values()) == 10
    assert len(measured.distributions) == 3


def test_the_earliest_is_known_whatever_comes_and_goes() -> None:
    times = Earliest()
    assert times.first() is None
    for number in range(5_000):
        times.put(("w", str(number % 7)), 10_000 - number)
    times.put(("w", "0"), 20_000)
    assert times.first() == 10_000 - 4_999
    for number in range(1, 7):
        times.drop(("w", str(number)))
    assert times.first() == 20_000
    assert len(times._heap) < 2_000
    times.drop(("w", "0"))
    assert times.first() is None


# Prometheus ---------------------------------------------------------------------------------------


def scraped(port: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """What a scrape gives: series by name, each by its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_a_scrape_has_all_series_with_their_labels() -> None:
    endpoint = Endpoint(filled(), "127.0.0.1", 0, RESOURCE)
    try:
        found = scraped(endpoint.port)
    finally:
        endpoint.close()
    assert found["mesh_decisions_total"] == {(("mesh_kind", "event"),): 4}
    assert found["mesh_approvals_open"] == {(("mesh_route", 'a "b"\\'),): 2}
    assert list(found["target_info"]) == [(("service_instance_id", "r1"), ("service_name", "mesh-router"))]
    buckets = {dict(labels)["le"]: value for labels, value in found["mesh_step_duration_seconds_bucket"].items()}
    assert (buckets["0.005"], buckets["0.01"], buckets["0.025"], buckets["1800"], buckets["+Inf"]) == (0, 1, 2, 2, 3)
    assert list(found["mesh_step_duration_seconds_sum"].values()) == [7_200.03]


def test_every_metric_is_scraped_under_the_name_that_is_documented() -> None:
    meters = Meters()
    for metric in names.ALL:
        labels = tuple("x" for _ in metric.attributes)
        if metric.kind == "histogram":
            meters.observe(metric, labels, 1.0)
        else:
            meters.put(metric, {labels: 1})
    registry = CollectorRegistry()
    registry.register(MetersCollector(meters, {}))
    found = {
        sample.name
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert found - {"target_info"} == {name for metric in names.ALL for name in metric.series_names}


# OTLP ---------------------------------------------------------------------------------------------


def test_otlp_has_the_same_numbers() -> None:
    data = encode_metrics(Pusher(filled(), "http://127.0.0.1:9", RESOURCE).data())
    [resource] = data.resource_metrics
    assert {one.key: one.value.string_value for one in resource.resource.attributes}.items() >= RESOURCE.items()
    [scope] = resource.scope_metrics
    by_name: Mapping[str, Any] = {metric.name: metric for metric in scope.metrics}
    assert set(by_name) == {"mesh.decisions", "mesh.approvals.open", "mesh.step.duration"}
    decisions = by_name["mesh.decisions"].sum
    assert decisions.is_monotonic
    assert [(one.attributes[0].value.string_value, one.as_double) for one in decisions.data_points] == [("event", 4)]
    [duration] = by_name["mesh.step.duration"].histogram.data_points
    assert (duration.count, duration.min, duration.max) == (3, 0.01, 7_200.0)
    assert sum(duration.bucket_counts) == 3
    assert len(duration.bucket_counts) == len(duration.explicit_bounds) + 1


# The running part ---------------------------------------------------------------------------------


def metering(exporter: Any = "prometheus", port: int = 0, endpoint: str | None = None) -> Metering:
    address = f"127.0.0.1:{port}"
    return Metering(exporter, service="mesh-test", instance="t", address=address, endpoint=endpoint, sample_s=0.001)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another task makes it true
            await asyncio.sleep(0.001)


async def test_it_samples_and_serves_until_it_is_closed() -> None:
    running, sampled = metering(), list[int]()
    running.sample(lambda: sampled.append(1))
    running.start()
    await until(lambda: running.port is not None and len(sampled) > 2)
    port = running.port
    assert port is not None
    found = await asyncio.to_thread(scraped, port)
    assert found["mesh_event_loop_delay_seconds_count"]
    assert found["mesh_sampled_at_seconds"]
    await running.close()
    with pytest.raises(OSError):
        await asyncio.to_thread(scraped, port)


async def test_an_address_that_is_taken_ends_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running, sampled = metering(port=taken.getsockname()[1]), list[int]()
        running.sample(lambda: sampled.append(1))
        running.start()
        await until(lambda: len(sampled) > 2)
        assert running.port is None
        await running.close()


async def test_a_collector_that_is_not_there_ends_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    running, sampled = metering("otlp", endpoint=f"http://127.0.0.1:{free}"), list[int]()
    running.sample(lambda: sampled.append(1))
    running.start()
    await until(lambda: len(sampled) > 2)
    await running.close()
