"""Questions that those who are to approve ask back, before they do.

Owns the values that events and the state share, and who is meant by the name that an asker gives.
`mesh.core.decide.settle.questions` judges questions and answers. Neither changes a vote.

    to people    a note of kind `question`; one of them answers it with `inform`
    to an agent  a task at the place `<step>.ask<n>`; its result, or its failure, is the answer
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

REQUESTER: Final = "requester"
MOST_QUESTIONS: Final = 20  # of one approval
QUESTIONS: Final = 3  # without a limit of the route's own
MOST_PROPOSAL: Final = 64 * 1024  # bytes of what an agent proposes as the payload


class Addressee(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who can be asked: an agent, people with a role, or some people.

    `name`: what an asker calls them.
    """

    name: str
    agent: str = ""
    role: str = ""
    people: tuple[str, ...] = ()


class AskingBack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom those who may answer can ask, how often in all, and how far that moves the deadline."""

    to: tuple[Addressee, ...]
    limit: int = QUESTIONS
    extends_ms: int = 0


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question that is not answered yet."""

    number: int  # from 1
    to: Addressee


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent has answered. `proposal`: what the payload could be instead."""

    text: str
    proposal: Any = msgspec.UNSET


def found_among(to: Iterable[Addressee], name: str) -> Addressee | None:
    """The addressee that an asker calls so; without a name the only one that there is."""
    known = tuple(to)
    if not name:
        return known[0] if len(known) == 1 else None
    return next((one for one in known if one.name == name), None)


def names_of(to: Iterable[Addressee]) -> str:
    return ", ".join(one.name for one in to)
