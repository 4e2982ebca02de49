"""What a record that the broker has refused raises in the process that has sent it."""

from mesh.errors import BrokerError, MeshError, RecordTooLarge, TopicMissing
from mesh.ports import Delivery, OutRecord, SendFailure


def error_of(failure: SendFailure, record: OutRecord, count: int) -> MeshError:
    """The error for the first of `count` failures, of this record."""
    more = f" (and {count - 1} more)" if count > 1 else ""
    match failure.code:
        case Delivery.TOPIC_MISSING:
            return TopicMissing(f"the topic {record.topic} is not there{more}: run `mesh topics apply`")
        case Delivery.TOO_LARGE:
            return RecordTooLarge(f"a record for {record.topic} is too large{more}: {failure.message}")
        case Delivery.REFUSED:
            return BrokerError(f"the broker refused a record for {record.topic}{more}: {failure.message}")
