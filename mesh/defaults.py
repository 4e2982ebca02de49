"""Defaults: what a mesh runs with where an operator has chosen nothing.

Owns each number that more than one part has to agree on, with its unit and its reason. The
settings, the router, the agents' runtime, the ports and the adapters take theirs from here, so a
test runs the same mesh as a user. What only `mesh.settings` knows (paths, log formats) has its
default there. A default that a record's format implies is not here: that one can never change.
"""

from typing import Final

TOPIC_PREFIX: Final = "mesh."

# Sizes and counts ---------------------------------------------------------------------------------

# of inbox, results and log: as many routers can share the work, and the count is fixed for good
PARTITIONS: Final = 16
# of each agent's task topic: as many processes of an agent can share its work
TASK_PARTITIONS: Final = 4
# copies of a topic: one machine holds no more
REPLICAS: Final = 1

# 512 KiB: a decision holds the event, and the inputs of the tasks made of it, in one record
MAX_EVENT_BYTES: Final = 512 * 1024
# 4 MiB: eight of the largest events; `max.message.bytes` in topics/topics.yaml says the same
MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
# of one poll, and so about one batch of decisions: more adds latency, and no throughput
BATCH_RECORDS: Final = 1_000

# Times --------------------------------------------------------------------------------------------

# the least that a Kafka broker takes by default (`group.min.session.timeout.ms`)
SESSION_TIMEOUT_S: Final = 6.0
# a broker that elects a leader answers within a few seconds
REQUEST_TIMEOUT_S: Final = 30.0
# Kubernetes kills a process 30 s after SIGTERM; the rest is for the last append and the goodbye
DRAIN_TIMEOUT_S: Final = 20.0
# the tail of the log makes up for what is younger than the checkpoint
CHECKPOINT_INTERVAL_S: Final = 5.0
# between when an answer was signed and when it came; a person's clock may be wrong, too
ANSWER_MAX_AGE_S: Final = 24 * 3_600
# between two renewals of an agent's card
CARD_INTERVAL_S: Final = 10.0
# a card holds for as many intervals: two renewals may be lost
CARD_INTERVALS: Final = 3
# what a client waits for an answer or an outcome
CLIENT_TIMEOUT_S: Final = 60.0
