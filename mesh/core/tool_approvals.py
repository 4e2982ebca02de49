"""Approvals of single calls: an agent in the middle of its work asks whether it may do one thing.

Owns the values that results, tasks, events and the state share. The attempt of the agent ends with
what it wants approved. After the verdict the task goes out again, with all verdicts so far, and the
agent finds its own by name and digest. `mesh.core.decide.settle.tools` has the rules.
"""

import re
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

MOST_ASKED: Final = 20
"""How many approvals one task may ask for, without a smaller limit of its route's own."""

LONGEST_QUESTION: Final = 2_000  # characters
LARGEST_SCHEMA: Final = 16 * 1024  # bytes: it is in the question's event, and on two topics
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
NAME_RULE: Final = "a-z, 0-9, _ and - (not first), at most 40 characters"


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent wants approved. Who may approve it is its route's to say.

    `payload_schema`: what an edit must fit, where the route says nothing of it; None: any payload.
    """

    name: str
    question: str
    payload: Any = None
    payload_schema: dict[str, Any] | None = None


class ToolVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it. It holds for a payload with this digest, and for no other.

    `payload`: only if people have edited it; else what was asked holds. `by`: of the closing
    answer; empty if it expired.
    """

    name: str
    digest: str
    approval_id: str
    verdict: Literal["approved", "rejected"]
    choice: str = ""
    by: str = ""
    reason: str = ""
    expired: bool = False
    form: Any = None
    payload: Any = msgspec.UNSET


class ToolState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The approvals that the agent of a step has asked for. Part of the step's state.

    `waits_for`: the name of the one that is open, or stuck; empty: none is. `digest`: of its
    payload as asked. `asked`: how many there were.
    """

    waits_for: str = ""
    digest: str = ""
    asked: int = 0
    verdicts: tuple[ToolVerdict, ...] = ()

    @property
    def has_approved(self) -> bool:
        """Whether the agent may have done something that was approved."""
        return any(one.verdict == "approved" for one in self.verdicts)


def is_tool_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def verdict_on(verdicts: tuple[ToolVerdict, ...], name: str, digest: str) -> ToolVerdict | None:
    """The verdict on this call with this payload."""
    return next((one for one in verdicts if (one.name, one.digest) == (name, digest)), None)


def with_verdict(tools: ToolState, verdict: ToolVerdict) -> ToolState:
    return replace(tools, waits_for="", digest="", verdicts=(*tools.verdicts, verdict))


def idle(tools: ToolState) -> ToolState:
    """Note that none is open any more."""
    return replace(tools, waits_for="", digest="") if tools.waits_for else tools
