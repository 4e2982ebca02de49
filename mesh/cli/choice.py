"""Which one is meant: an id, or a part of one, that a person has typed.

Owns the rule for every command. A whole id always means that one, whatever other ids it is a part
of. A part is a convenience for a person. A command that only reads takes it if it fits one id
alone. A command that changes something asks first, and without a terminal takes whole ids only.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.session import Session
from mesh.cli.text.format import printable
from mesh.errors import NotFound, OperatorError
from mesh.inspection.read_model.pages import Found

if TYPE_CHECKING:
    from mesh.inspection.read_model import ReadModel

SHOWN: Final = 10  # ids that a message names
DIGITS: Final = 12  # of a digest, as `mesh routes list` prints it
_SHA: Final = "sha256:"


class Among(NamedTuple):
    """The things among which an id is looked for.

    `what`, `whats`: the noun, for one and for several. `where`: the command that lists them.
    `whole`: the id that the given text names as a whole, if any.
    """

    what: str
    whats: str
    where: str
    whole: Callable[[str], str | None]
    containing: Callable[[str, int], Found]


def pick(session: Session, given: str, among: Among, *, changes: bool) -> str:
    """The id that `given` means. `changes`: the command does more than read.

    Raises `NotFound` if there is none, or if a part would need a confirmation and there is no
    terminal. Raises `OperatorError`, with a list, if a part fits several.
    """
    whole = among.whole(given)
    if whole is not None:
        return whole
    found = among.containing(given, SHOWN)
    if found.total == 0:
        raise NotFound(f"no {among.what} has {given!r} in its id; `{among.where}` lists them")
    if found.total > 1:
        raise OperatorError(f"{given!r} fits {found.total:,} {among.whats}; give the whole id:{listed(found)}")
    [only] = found.ids
    if changes:
        _confirm(session, given, only, among.what)
    return only


def listed(found: Found) -> str:
    """The first ids, one on each line, and how many more there are."""
    lines = "".join(f"\n  {one}" for one in found.ids)
    rest = found.total - len(found.ids)
    return lines + (f"\n  and {rest:,} more" if rest else "")


def _confirm(session: Session, given: str, only: str, what: str) -> None:
    if not session.is_interactive:
        raise NotFound(
            f"no {what} has the id {given!r}. It is a part of {only}: give that whole id; "
            "a part is taken only where a person at a terminal confirms it"
        )
    with interruptible():
        is_meant = click.confirm(f"{given!r} is a part of {printable(only)}. Do you mean that one?", err=True)
    if not is_meant:
        raise NotFound(f"no {what} has the id {given!r}; nothing was sent")


def among_ids(ids: Sequence[str], *, what: str, whats: str, where: str) -> Among:
    """Choose among ids that are at hand as a list."""
    return Among(what, whats, where, lambda given: given if given in ids else None, _containing(ids))


def among_digests(digests: Sequence[str]) -> Among:
    """Choose among stored versions of routes, by digest.

    The twelve digits that the lists print count as the whole digest.
    """

    def whole(given: str) -> str | None:
        digits = given.removeprefix(_SHA)
        fits = [one for one in digests if one.removeprefix(_SHA).startswith(digits)]
        return fits[0] if len(fits) == 1 and len(digits) >= DIGITS else None

    return Among("stored version", "stored versions", "mesh routes list", whole, _containing(digests))


def _containing(ids: Sequence[str]) -> Callable[[str, int], Found]:
    def search(part: str, limit: int) -> Found:
        found = [one for one in ids if part in one]
        return Found(len(found), found[:limit])

    return search


def pick_workflow(session: Session, model: "ReadModel", given: str, *, changes: bool) -> str:
    """The id of the workflow that `given` means, running or ended."""
    from mesh.inspection.read_model import queries  # noqa: PLC0415 - approvers have no use for it

    among = Among(
        "workflow",
        "workflows",
        "mesh workflows list",
        lambda given: given if queries.has_workflow(model.db, given) else None,
        lambda part, limit: queries.workflows_containing(model.db, part, limit=limit),
    )
    return pick(session, given, among, changes=changes)
