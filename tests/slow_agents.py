"""The slow agent, in a process whose Kafka client drops a member that does not poll for a second.

It shows that a handler must not hold up the polling.
"""

from functools import partial

from moody_agents import slow

from mesh.adapters.kafka import cluster

__all__ = ["slow"]

_Patient = cluster.AIOKafkaConsumer  # type: ignore[attr-defined]  # not the adapter's to export: this reaches into it
cluster.AIOKafkaConsumer = partial(_Patient, max_poll_interval_ms=1_000)  # type: ignore[attr-defined]  # as above
