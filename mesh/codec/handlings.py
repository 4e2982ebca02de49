"""What an operator does with a dead letter: it goes back, or is discarded. Records of `mesh.dlq`.

Owns the record, which lies in the partition of its letter, behind it; so all who read the letters
read it too. `topics/schemas/dead-letter-handling.json` says the same. `mesh dlq redrive` and `mesh
dlq discard` write it; `mesh.inspection.letters` says what it changes.
"""

from typing import Final, Literal, NamedTuple

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers, header
from mesh.codec.dead_letters import PREFIX
from mesh.codec.places import place
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

HANDLING_TYPE: Final = "mesh.dlq.handling"
_KEY: Final = "handling/"

Act = Literal["taken", "redriven", "released", "discarded"]


class LetterPlace(NamedTuple):
    """The place of a dead letter in the dead-letter topic."""

    partition: int
    offset: int

    @property
    def id(self) -> str:
        """The name that operators use."""
        return f"{self.partition}/{self.offset}"


class Handling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of an operation on a dead letter.

    `act`: `taken` before the letter is sent, `redriven` once it was, `released` where the broker
    refused it; or `discarded`. `operation`: the same for all letters of one command. `after`: the
    operation that `taken` or `discarded` follows; it does not count unless that was the letter's
    last. So of two operators who redrive the same letter only the first one does.
    """

    partition: int
    offset: int
    act: Act
    operation: str
    by: str
    at_ms: int
    after: str = ""  # empty: the letter was open
    reason: str = ""
    to: str = ""  # of what was redriven: the topic

    @property
    def place(self) -> LetterPlace:
        return LetterPlace(self.partition, self.offset)


_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Handling] = msgspec.json.Decoder(Handling)


def encode_handling(handling: Handling, *, topic: str) -> OutRecord:
    """Key: `handling/` and the letter's place."""
    name = handling.place.id
    headers = binary_headers(
        id=f"{handling.operation}/{name}/{handling.act}", source="/mesh/operators", type=HANDLING_TYPE
    )
    return OutRecord(
        topic=topic,
        key=f"{_KEY}{name}".encode(),
        value=_encode(handling),
        headers=headers,
        partition=handling.partition,
    )


def is_handling(record: Record) -> bool:
    """Whether a record of the topic is this, and not a dead letter.

    A dead letter keeps the headers of its original, whatever those are.
    """
    is_letter = any(name.startswith(PREFIX) for name, _ in record.headers)
    return not is_letter and header(record, "ce_type") == HANDLING_TYPE


def decode_handling(record: Record) -> Handling:
    """Raises `MalformedRecord`."""
    try:
        return _decoder.decode(record.value or b"")
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(f"{place(record)}: not the handling of a dead letter ({error})") from error
