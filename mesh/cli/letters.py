"""`mesh dlq redrive | discard`: send dead letters back, or say that nothing is to be done.

Owns which letters are meant, what is shown before, and how results are told.
`mesh.inspection.redriving` does it.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, Unpack

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.moments import moment
from mesh.cli.options import by_option, reason_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, one_line, printable
from mesh.codec.handlings import LetterPlace
from mesh.codec.redrive import By
from mesh.codec.times import rfc3339
from mesh.errors import NotFound, OperatorError
from mesh.inspection.documents.orders import LettersOrder
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import DeadLetterRow, LetterFilter
from mesh.inspection.redriving import PORTION, Redriving, Verdict
from mesh.wiring.web import webhooks_of

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api

STYLES: Final = {"redriven": "green", "discarded": "green", "stays": "yellow"}
_KINDS: Final = 20  # of letters in a preview; all are counted
_EXAMPLES: Final = "--id, --code, --topic, --route or --since; --all takes every open one"


class FilterOptions(TypedDict):
    """What the options of `letter_filters` give."""

    topic: str | None
    code: str | None
    route: str | None
    since: str | None


class _Given(FilterOptions):
    """What the command line gives to both verbs."""

    ids: tuple[str, ...]
    every: bool
    again: bool
    dry_run: bool
    yes: bool
    by: str
    reason: str


class _Order(NamedTuple):
    """What is wanted: `verb` is the word for what becomes of each letter.

    `path`: the word of the console's API.
    """

    verb: str
    path: str
    plan: Callable[[Redriving, Sequence[DeadLetterRow]], AsyncIterator[Verdict]]
    act: Callable[[Redriving, Sequence[DeadLetterRow]], AsyncIterator[Verdict]]


def letter_filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which letters: `--topic --code --route --since`."""
    options = (
        click.option("--topic", metavar="TOPIC", help="Only letters whose originals came on this topic."),
        click.option("--code", metavar="REASON", help="Only these, such as unclaimed: events that no step waited for."),
        click.option("--route", metavar="ROUTE", help="Only those of this route, where that is known."),
        click.option(
            "--since", metavar="TIME", help="Only those since then: 2h, 7d, 2026-11-20, 2026-11-20T08:00:00Z."
        ),
    )
    return reduce(lambda inner, option: option(inner), reversed(options), function)


def letter_filter(
    session: Session, *, statuses: tuple[str, ...] | None, places: tuple[LetterPlace, ...] | None, **given: str | None
) -> LetterFilter:
    """The filter that these options mean."""
    since = given["since"]
    return LetterFilter(
        statuses=statuses,
        places=places,
        topic=given["topic"],
        code=given["code"],
        route=given["route"],
        since_ms=None if since is None else moment(since, session.now_ms(), "--since"),
    )


def _both(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--id", "ids", metavar="ID", multiple=True, help="This letter; may be given several times."),
        letter_filters,
        click.option("--all", "every", is_flag=True, help="Every open letter."),
        click.option(
            "--again", is_flag=True, help="Also letters that were redriven or discarded before; they need their --id."
        ),
        click.option("--dry-run", is_flag=True, help="Show what would become of each letter, and do nothing."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        by_option("does this"),
        reason_option(),
        mesh_command,
    )
    return reduce(lambda inner, option: option(inner), reversed(options), function)


@click.command(short_help="Send dead letters back to where they belong.")
@_both
def redrive(session: Session, **given: Unpack[_Given]) -> None:
    """Send dead letters back to where they belong: events and commands to their topics.

    Shows first what would become of them, and asks. Answers, tasks, results and records between
    workflows stay: the message says what helps instead.

    A letter goes back once: what is redriven is noted on the dead-letter topic, where every
    operator's command sees it. Exits with 1 if any stays.
    """
    _run(session, _Order("redriven", "redrive", Redriving.planned, Redriving.redrive), given)


@click.command(short_help="Say that nothing is to be done about dead letters.")
@_both
def discard(session: Session, **given: Unpack[_Given]) -> None:
    """Say that nothing is to be done about dead letters: they count no more.

    Nothing is deleted: `mesh dlq list --status discarded` has them, with who and why.
    """
    _run(session, _Order("discarded", "discard", Redriving.planned_discard, Redriving.discard), given)


def _run(session: Session, order: _Order, given: _Given) -> None:
    by = By(session.fresh_id(), given["by"], session.now_ms(), given["reason"])
    wanted = _filter(session, given)
    planned = session.run(_work(session, order, wanted, by, given, dry_run=True)).verdicts
    if not planned:
        raise NotFound("no open dead letter is meant by this; `mesh dlq list --status all` has every one")
    if given["dry_run"]:
        _tell(session, None, planned)
        return
    if not session.as_json:
        _preview(session, order, planned)
    done = _Done(by.operation, planned)
    if not all(one.verdict == "stays" for one in planned):
        if not given["yes"]:
            session.confirm_apply()
        done = session.run(_work(session, order, wanted, by, given, dry_run=False))
    _tell(session, done.operation, done.verdicts)
    if any(one.verdict == "stays" for one in done.verdicts):
        sys.exit(FAILED)


class _Done(NamedTuple):
    """What became of the letters, or would, and the name of the operation."""

    operation: str
    verdicts: list[Verdict]


async def _work(
    session: Session, order: _Order, wanted: LetterFilter, by: By, given: _Given, *, dry_run: bool
) -> _Done:
    if session.api is not None:
        return await _work_at_console(session.api, order, wanted, given, dry_run=dry_run)
    what = order.plan if dry_run else order.act
    return _Done(by.operation, await _each(session, what, wanted, by, given, read_only=dry_run))


async def _work_at_console(api: "Api", order: _Order, wanted: LetterFilter, given: _Given, *, dry_run: bool) -> _Done:
    """The same in the name of the token's person, some letters at a time."""
    ids = [place.id for place in wanted.places or ()]
    if not ids:
        ids = [one.id for one in await api.all_letters(state="new", **parameters_of(wanted)) if one.status == "open"]
    operation, verdicts = "", list[Verdict]()
    for start in range(0, len(ids), PORTION):
        some = LettersOrder(
            ids=tuple(ids[start : start + PORTION]), reason=given["reason"], again=given["again"], dry_run=dry_run
        )
        found = await api.settle(order.path, some)
        operation = operation or found.operation or ""
        verdicts += found.dead_letters
    return _Done(operation, sorted(verdicts, key=lambda one: _place(one.id)))


def parameters_of(wanted: LetterFilter) -> dict[str, str | int | None]:
    """The filter as the console's API takes it."""
    since = None if wanted.since_ms is None else rfc3339(wanted.since_ms)
    return {"topic": wanted.topic, "reason": wanted.code, "route": wanted.route, "since": since}


def _filter(session: Session, given: _Given) -> LetterFilter:
    chosen = [given[name] for name in ("topic", "code", "route", "since")]
    if not given["ids"] and not given["every"] and all(one is None for one in chosen):
        raise OperatorError(f"say which letters: {_EXAMPLES}")
    if given["again"] and not given["ids"]:
        raise OperatorError("--again is for letters that are named one by one: give their --id")
    return letter_filter(
        session,
        statuses=None if given["ids"] else ("open",),
        places=tuple(map(_place, given["ids"])) or None,
        topic=given["topic"],
        code=given["code"],
        route=given["route"],
        since=given["since"],
    )


def _place(text: str) -> LetterPlace:
    partition, _, offset = text.partition("/")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (partition, offset)):  # noqa: PLR2004 - SQLite's integers
        raise click.BadParameter(
            f"{text!r} is not the id of a dead letter, as `mesh dlq list` has it", param_hint="--id"
        )
    return LetterPlace(int(partition), int(offset))


async def _each(
    session: Session,
    what: Callable[[Redriving, Sequence[DeadLetterRow]], AsyncIterator[Verdict]],
    wanted: LetterFilter,
    by: By,
    given: _Given,
    *,
    read_only: bool,
) -> list[Verdict]:
    async with session.model(read_only=read_only) as (broker, model):
        webhooks = webhooks_of(session.settings)
        redriving = Redriving(broker, model, session.topics, by, again=given["again"], webhooks=webhooks)
        rows = queries.dead_letters(model.db, wanted)
        if wanted.places is not None and len(rows) < len(set(wanted.places)):
            missing = sorted({place.id for place in wanted.places} - {row.id for row in rows})
            raise NotFound(f"no such dead letter: {', '.join(missing)}; `mesh dlq list --status all` has every one")
        return [one async for one in what(redriving, rows)]


# Telling ------------------------------------------------------------------------------------------


def _preview(session: Session, order: _Order, planned: Sequence[Verdict]) -> None:
    """How many of which kind would go where."""
    kinds = Counter((one.topic, one.letter_code, one.to, one.message) for one in planned)
    going = sum(one.verdict != "stays" for one in planned)
    session.show(Text(f"{counted(len(planned), 'dead letter')}: {going:,} would be {order.verb}", style="bold"))
    for (topic, code, to, message), count in kinds.most_common(_KINDS):
        where = f" to {to}" if to else f" stay: {one_line(message)}" if message else ""
        session.show(Text(f"  {count:,} {code} of {printable(topic) or 'unknown'}{where}"))
    if len(kinds) > _KINDS:
        session.show(Text(f"  and {len(kinds) - _KINDS:,} other kinds", style="dim"))


def _tell(session: Session, operation: str | None, done: Sequence[Verdict]) -> None:
    """`operation` None: it was a dry run."""
    counts = Counter[str](one.verdict for one in done)
    if session.as_json:
        said = {name: counts[name] for name in STYLES}
        session.emit({"dry_run": operation is None, "operation": operation, "counts": said, "dead_letters": done})
        return
    for one in done:
        line = Text(f"{one.verdict:<9}", style=STYLES[one.verdict]) + Text(f"  {one.id}", style="bold")
        line.append(f"  {one.letter_code} of {printable(one.topic) or 'unknown'}", style="default")
        line.append(f" to {one.to}" if one.to else "")
        line.append(f"  {printable(one.message)}" if one.message else "", style="default")
        session.show(line)
    said_counts = ", ".join(f"{counts[name]:,} {name}" for name in STYLES if counts[name])
    end = "; this was a dry run, nothing is done" if operation is None else ""
    session.note(f"{counted(len(done), 'dead letter')}: {said_counts}{end}")
