"""The slow agent, in a process whose Kafka client gives up a member that has not polled for a
second: a handler must not hold up the polling.
"""

from functools import partial

from moody_agents import slow

from mesh.adapters.kafka import cluster

__all__ = ["slow"]

_Patient = cluster.AIOKafkaConsumer  # type: ignore[attr-defined]  # not the adapter's to export: this reaches into it
cluster.AIOKafkaConsumer = partial(_Patient, max_poll_interval_ms=1_000)  # type: ignore[attr-defined]  # as above
