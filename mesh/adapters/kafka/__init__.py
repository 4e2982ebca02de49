"""Apache Kafka through aiokafka.

Nothing outside this package imports aiokafka.

Called by `mesh.wiring` alone. What is where: `broker` (the port), `cluster` (topics, offsets,
positions: questions that are asked until they are answered), `lanes` (order and batches, without
I/O), `producers` (the producers behind the lanes), `consumers` (readers and members), `group` (what
a rebalance means to a listener, without I/O), `clients` (which of aiokafka's are past use, and how
each is ended), `connections` (corrects aiokafka's).
"""

from mesh.adapters.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
