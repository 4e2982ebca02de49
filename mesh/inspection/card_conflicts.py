"""Replicas of one agent whose cards disagree about what it takes or gives.

Owns what a disagreement is. Tasks go to any replica, so what fits one may be refused by another.
`mesh agents`, `mesh status` and `mesh routes check --online` show it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from mesh.core.json_values import text_of
from mesh.core.state import AgentCard


class SchemaConflict(msgspec.Struct, frozen=True, kw_only=True):
    """`fields`: which schemas differ. `sides`: the replicas by what they say, the most first."""

    agent: str
    fields: tuple[str, ...]
    sides: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        sides = " against ".join(_few(side) for side in self.sides)
        return f"replicas of {self.agent} have different {' and '.join(self.fields)}: {sides}"


def conflict_of(name: str, cards: Iterable[AgentCard]) -> SchemaConflict | None:
    """How these cards of one agent disagree; None if they do not.

    `cards`: of its living replicas.
    """
    own = [card for card in cards if card.name == name and not card.registration]
    sides: dict[tuple[str, str], list[str]] = {}
    for card in own:
        said = (_text(card.input_schema), _text(card.output_schema))
        sides.setdefault(said, []).append(f"{card.instance} ({card.version})" if card.version else card.instance)
    if len(sides) < 2:  # noqa: PLR2004 - one side agrees with itself
        return None
    named = [("input schemas", {said[0] for said in sides}), ("output schemas", {said[1] for said in sides})]
    ordered = sorted((tuple(sorted(side)) for side in sides.values()), key=lambda side: (-len(side), side))
    fields = tuple(name for name, texts in named if len(texts) > 1)
    return SchemaConflict(agent=name, fields=fields, sides=tuple(ordered))


def conflicts_of(cards: Iterable[AgentCard]) -> dict[str, SchemaConflict]:
    """The agents whose living replicas disagree, by name."""
    own = list(cards)
    found = ((name, conflict_of(name, own)) for name in sorted({card.name for card in own}))
    return {name: conflict for name, conflict in found if conflict is not None}


def _text(schema: dict[str, Any] | None) -> str:
    return "" if schema is None else text_of(schema)


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004 - three are enough
