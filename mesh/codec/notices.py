"""The records of `mesh.approvals.notices`: what people are told, and what became of it.

Owns their bytes, keys and partitions. A notice is written when it is due, and again with what
became of it, once for each address. So the topic alone says what is still to be sent, and a
notifier that starts with an empty folder goes on where the last one was.

    <approval id>/<what>/<number>/<person>     the id of a notice
    digest/<yyyymmdd>/<person>                 ... of a digest, which is of no single approval

The notifier writes and reads them, and operators read them.
"""

from functools import lru_cache
from typing import Final, Literal

import msgspec

from mesh.codec import exact_json
from mesh.codec.channels import ChannelKind
from mesh.codec.cloudevents import binary_headers
from mesh.codec.places import place
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.ids import partition_of_key
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

What = Literal["asked", "edited", "stage", "extended", "closed", "reminder", "digest", "question", "answered"]
NoticeStatus = Literal["due", "sent", "undelivered", "dropped"]
NOTICE_PARTITIONS: Final = 4  # as many as the topic of open approvals has: those of an approval go together
LONGEST_TEXT: Final = 500  # characters of a question or an answer that a notice holds
_TYPE: Final = "mesh.notice."


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message to one person at one address. `at`: the moment that it is about.

    `asked_at`, `edition`, `deadline_at`: how the approval was. `message`: under which id it went
    out, where one message told several notices. `reason`: why it was not delivered, or dropped.
    `text`: the question that was asked back, or its answer; `number` is that of the question then.
    `on_behalf`: who is away, and for whom `person` may answer.
    """

    id: str
    what: What
    number: int
    person: str
    channel: ChannelKind
    status: NoticeStatus = "due"
    at: str
    approval_id: str = ""  # empty: a digest
    question: str = ""
    requester: str = ""
    asked_at: str = ""
    edition: int = 1
    deadline_at: str | None = None
    verdict: str = ""  # of a close: approved, rejected, withdrawn
    by: str = ""  # ... whose answer closed it; who asks back, or has answered that
    text: str = ""
    attempts: int = 0
    message: str = ""
    reason: str = ""
    on_behalf: str = msgspec.field(name="for", default="")

    @property
    def at_ms(self) -> int:
        return parse_rfc3339(self.at)

    @property
    def deadline_at_ms(self) -> int | None:
        return None if self.deadline_at is None else parse_rfc3339(self.deadline_at)


_decoder: msgspec.json.Decoder[Notice] = msgspec.json.Decoder(Notice)
_encode = msgspec.json.Encoder().encode


def notice_id(approval_id: str, what: What, number: int, person: str) -> str:
    """By which a receiver knows a repeat."""
    return f"{approval_id}/{what}/{number}/{person}" if approval_id else f"{what}/{number}/{person}"


def notice_key(notice: Notice) -> str:
    """The key of its records.

    All of an approval, and all digests of a person, are in one partition.
    """
    return notice.approval_id or f"digest/{notice.person}"


# a turn of the notifier asks several times for each of its approvals
@lru_cache(maxsize=4_096)
def notice_partition(key: str) -> int:
    return partition_of_key(key.encode("utf-8", "surrogatepass"), NOTICE_PARTITIONS)


def encode_notice(notice: Notice, *, topics: Topics, at_ms: int) -> OutRecord:
    """A notice as it is now. The type says its status, so a reader may pass over others."""
    key = notice_key(notice)
    headers = binary_headers(
        id=f"{notice.id}/{notice.channel}/{notice.status}",
        source="/mesh/notifier",
        type=_TYPE + notice.status,
        time=rfc3339(at_ms),
    )
    return OutRecord(
        topic=topics.notices,
        key=key.encode("utf-8", "surrogatepass"),
        value=_encode(notice),
        headers=headers,
        partition=notice_partition(key),
    )


def is_about(record: Record, status: NoticeStatus) -> bool:
    """Whether a record says that a notice has this status, by its headers alone."""
    return ("ce_type", (_TYPE + status).encode()) in record.headers


def decode_notice(record: Record) -> Notice:
    """The notice in a record. Raises `MalformedRecord`."""
    try:
        notice = _decoder.decode(record.value or b"")
        _ = notice.at_ms, notice.deadline_at_ms
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)}: not a notice ({error}); only notifiers may write to this topic"
        ) from error
    return notice
