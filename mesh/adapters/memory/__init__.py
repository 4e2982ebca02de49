"""The memory broker: a cluster inside one process, for tests and simulation.

Nothing survives the process.

`MemoryCluster` holds the records and the groups; `MemoryCluster.connect` opens connections, one for
each (simulated) process. By default an append compares and takes its effects with it, as on SQLite;
with a `WeakBehaviour` it behaves as Kafka may. Called by `mesh.wiring`, `mesh.testing` and tests.
It must not know what a record means.
"""

from mesh.adapters.memory.cluster import MemoryCluster
from mesh.adapters.memory.connection import MemoryBroker
from mesh.adapters.memory.weak import WeakBehaviour

__all__ = ["MemoryBroker", "MemoryCluster", "WeakBehaviour"]
