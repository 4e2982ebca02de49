"""What a signature proves of an answer, and how much an approval asks for.

Owns the values that events and the state share. It must not check a signature: the owner does,
before it decides (`mesh.codec.signed_answers`), so replay never does.
"""

from typing import Final, Literal, get_args

import msgspec

Level = Literal["none", "gateway", "own"]
"""What an answer must bring: nothing, any signature, or the person's own.

A gateway signs as itself, and names the person.
"""

LEVELS: Final[tuple[Level, ...]] = get_args(Level)


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose key has signed an answer.

    `signer`: the person, or the gateway that speaks for them. `people`: the version of the people
    by which the key was judged; empty: a file has them.
    """

    kid: str
    signer: str
    how: Literal["own", "gateway"]
    people: str = ""


def stricter(one: Level, other: Level) -> Level:
    """The level that asks for more."""
    return max(one, other, key=LEVELS.index)
