"""Workflow states and a partition's positions as bytes.

They are for checkpoints and for comparing two folds. Owns no meaning. A checkpoint is a cache, and
one that can't be read is deleted. So its bytes promise nothing beyond one version.
"""

from typing import Any

import msgspec

from mesh.core.clock import ClockHold, Sighting
from mesh.core.json_values import canonical
from mesh.core.layered import Layered
from mesh.core.state import PartitionState, Workflow


class PartitionMeta(msgspec.Struct, frozen=True, kw_only=True):
    """A `PartitionState` without its workflows, which a checkpoint keeps one a row."""

    positions: dict[str, int]
    watermarks: dict[str, tuple[int, int]]
    mark: int
    sequence: int = 0
    at_ms: int = 0
    hold: ClockHold | None = None
    seen: Sighting | None = None
    claimed: Sighting | None = None

    def state(self, workflows: dict[str, Workflow]) -> PartitionState:
        """What it was made of, with these workflows."""
        return PartitionState(
            workflows=workflows,
            positions=self.positions,
            watermarks=dict(self.watermarks),
            mark=self.mark,
            sequence=self.sequence,
            at_ms=self.at_ms,
            hold=self.hold,
            seen=self.seen,
            claimed=self.claimed,
        )


def _plain(value: Any) -> Any:
    """A type that JSON does not know, as one that it does."""
    if isinstance(value, Layered):
        return value.whole()
    raise NotImplementedError(f"a {type(value).__name__} has no place in a state")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode_workflow = msgspec.json.Decoder(Workflow).decode
_decode_meta = msgspec.json.Decoder(PartitionMeta).decode


def encode_workflow(workflow: Workflow) -> bytes:
    return _encode(workflow)


def decode_workflow(value: bytes) -> Workflow:
    """A workflow from its bytes. Raises `msgspec.DecodeError` if they are not of this version."""
    return _decode_workflow(value)


def encode_meta(state: PartitionState) -> bytes:
    return _encode(
        PartitionMeta(
            positions=state.positions,
            watermarks=state.watermarks,
            mark=state.mark,
            sequence=state.sequence,
            at_ms=state.at_ms,
            hold=state.hold,
            seen=state.seen,
            claimed=state.claimed,
        )
    )


def decode_meta(value: bytes) -> PartitionMeta:
    """A partition's meta from its bytes.

    Raises `msgspec.DecodeError` if they are not of this version.
    """
    return _decode_meta(value)


def workflow_document(workflow: Workflow) -> dict[str, Any]:
    """A workflow as JSON types."""
    # through bytes and back once, so that a live state and one read from a checkpoint are equal to
    # the byte (3600 against 3600.0, tuple against list)
    document: dict[str, Any] = msgspec.json.decode(_encode(_decode_workflow(_encode(workflow))))
    return document


def canonical_workflow(workflow: Workflow) -> bytes:
    """What two folds of one log must agree on to the byte."""
    return canonical(workflow_document(workflow))
