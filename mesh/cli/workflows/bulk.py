"""The verbs of `mesh workflows` in bulk: which workflows, the preview, the question, the order.

Owns what is shown before anything is sent. The preview fixes the ids; from the order on it is an
operation, which routers carry out whatever becomes of this command (`mesh.cli.operations`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

import click
import msgspec
from rich.text import Text

from mesh.cli.moments import moment
from mesh.cli.operations import (
    View,
    at_console,
    exit_if_refused,
    follow,
    look,
    look_at_console,
    opened,
    tell,
    with_results,
)
from mesh.cli.session import Session
from mesh.cli.text.format import counted, printable
from mesh.cli.workflows.filters import FilterOptions, WorkflowFilter, workflow_filter, workflow_filters
from mesh.codec.operations import Ordered
from mesh.codec.times import rfc3339
from mesh.core.forks import PlannedFork
from mesh.core.inputs import Command
from mesh.errors import NotFound, OperatorError
from mesh.inspection.documents.orders import BulkOrder
from mesh.inspection.documents.orders import Wanted as BulkWanted
from mesh.inspection.kinds import count_kinds
from mesh.inspection.read_model import ReadModel
from mesh.inspection.read_model.queries import WorkflowRow
from mesh.ports import Broker
from mesh.services.operations import order

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api

RATE: Final = 20  # commands a second
TYPED_FROM: Final = 100  # workflows above which the number is typed
_KINDS: Final = 20  # rows of a preview; all workflows are counted


class BulkOptions(TypedDict):
    """What the options of `in_bulk` give."""

    status: str | None
    route: str | None
    agent: str | None
    cause: str | None
    older_than: str | None
    where: str | None
    dry_run: bool
    yes: bool
    rate: int
    detach: bool


class Refined(NamedTuple):
    """Which of the workflows are meant after all.

    `to`: the digest of the version to go to, by route. `forks`: by workflow. `left_out`: how many
    were found and are not meant, by the reason.
    """

    rows: list[WorkflowRow]
    to: Mapping[str, str] = {}
    forks: Mapping[str, PlannedFork] = {}
    left_out: Mapping[str, int] = {}


Refine = Callable[[Broker, ReadModel, list[WorkflowRow]], Awaitable[Refined]]


class Wanted(NamedTuple):
    """What is ordered of many.

    `status`: of workflows for which it makes sense; None: of all. `step`: the filter's.
    `at`: the step that the command itself names. `refine`: for a command that needs more than a
    filter.
    """

    command: Command
    status: str | None
    by: str
    reason: str
    timeout_s: float
    step: str | None = None
    input: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    at: str | None = None
    refine: Refine | None = None


class _Chosen(NamedTuple):
    """The workflows; the filter in words; how many there are by route and step.

    `refined`: with what the command needs of each. `preview`: what names the choice at the
    console; empty: a broker was asked.
    """

    ids: Sequence[str]
    words: str
    kinds: Counter[tuple[str, str]]
    refined: Refined
    preview: str = ""


def in_bulk(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a verb for many workflows. The command has `--step` itself."""
    options = (
        click.option("--dry-run", is_flag=True, help="Show which workflows are meant, and do nothing."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option(
            "--rate",
            type=click.IntRange(1, 1_000),
            default=RATE,
            show_default=True,
            metavar="N",
            help="Commands a second, for many workflows.",
        ),
        click.option("--detach", is_flag=True, help="Do not wait for the results: `mesh operations show` has them."),
    )
    with_rest = reduce(lambda inner, option: option(inner), reversed(options), function)
    return workflow_filters(with_rest, without="step")


def is_bulk(options: BulkOptions, part: str | None, step: str | None) -> bool:
    """Whether a filter is given, and no id. Raises `UsageError` if it is neither or both."""
    filters = ("status", "route", "agent", "cause", "older_than", "where")
    given = [f"--{name.replace('_', '-')}" for name in filters if dict(options)[name] is not None]
    if part is not None and given:
        raise click.UsageError(f"an ID is one workflow, and {given[0]} means many: give one of them")
    if part is None and not given and step is None:
        raise click.UsageError(
            "say which workflows: an ID, or a filter such as --cause, --route, --step, --agent, --older-than or --where"
        )
    if part is not None and options["dry_run"]:
        raise click.UsageError("--dry-run goes with a filter: `mesh workflows show ID` shows the one workflow")
    return part is None


def run_bulk(session: Session, wanted: Wanted, options: BulkOptions) -> None:
    """Show what is meant, ask, order it, and follow it."""
    if not wanted.reason.strip() and not options["dry_run"]:
        raise click.UsageError('for many workflows say why: --why "..."; it is kept in the log')
    chosen = session.run(_choose(session, wanted, options))
    if not session.as_json or options["dry_run"]:
        _preview(session, wanted, chosen, dry_run=options["dry_run"])
    if options["dry_run"]:
        return
    if not options["yes"]:
        _confirm(session, len(chosen.ids))
    session.run(_order(session, wanted, options, chosen))


async def _choose(session: Session, wanted: Wanted, options: BulkOptions) -> _Chosen:
    if session.api is not None and wanted.refine is None:
        return await _choose_at_console(session, session.api, wanted, options)
    async with session.model() as (broker, model):
        found = filter_of(session, model, options, wanted.step, status=wanted.status)
        page = found.page(model)
        _check(session, model, found, page)
        # the oldest first: they have waited longest
        refined = Refined(list(reversed(page)))
        if wanted.refine is not None:
            refined = await wanted.refine(broker, model, refined.rows)
        if not refined.rows:
            raise NotFound(f"{_why_out(refined.left_out)}; nothing was sent")
        kinds = count_kinds(model.db, refined.rows, wanted.at or wanted.step)
        return _Chosen([row.workflow_id for row in refined.rows], " ".join(found.parts), kinds, refined)


async def _choose_at_console(session: Session, api: "Api", wanted: Wanted, options: BulkOptions) -> _Chosen:
    from mesh.cli.remote.picks import cause_of  # noqa: PLC0415 - only where there is no broker

    cause, older = options["cause"], options["older_than"]
    given = {
        "command": wanted.command,
        "status": options["status"],
        "route": options["route"],
        "step": wanted.step,
        "agent": options["agent"],
        "cause": None if cause is None else await cause_of(session, api, cause),
        "older_than": None if older is None else rfc3339(moment(older, session.now_ms(), "--older-than")),
        "where": options["where"],
    }
    found = await api.preview(msgspec.convert(given, BulkWanted))
    kinds = Counter({(one.route, one.step): one.workflows for one in found.kinds})
    return _Chosen(found.workflows, "", kinds, Refined([]), found.id)


def filter_of(
    session: Session, model: ReadModel, options: BulkOptions, step: str | None, *, status: str | None
) -> WorkflowFilter:
    """The query that these options mean. `status`: without the option."""
    given: FilterOptions = {
        "status": options["status"] or status,
        "route": options["route"],
        "step": step,
        "agent": options["agent"],
        "cause": options["cause"],
        "older_than": options["older_than"],
        "where": options["where"],
    }
    return workflow_filter(session, model, **given)


def _check(session: Session, model: ReadModel, found: WorkflowFilter, page: Sequence[WorkflowRow]) -> None:
    if found.where is not None and found.where.problem:
        session.note(f"of some workflows it can't be told whether --where holds: {found.where.problem}")
    if not page:
        raise NotFound(f"{found.why_none(model)}; nothing was sent")


def _why_out(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{counted(count, 'workflow')}: {reason}" for reason, count in left_out.items())


def _preview(session: Session, wanted: Wanted, chosen: _Chosen, *, dry_run: bool) -> None:
    kinds, left_out, ids = chosen.kinds, chosen.refined.left_out, chosen.ids
    if session.as_json:
        by_kind = [{"route": route, "step": step, "workflows": count} for (route, step), count in kinds.most_common()]
        session.emit(
            {
                "dry_run": True,
                "command": wanted.command,
                "total": len(ids),
                "kinds": by_kind,
                "left_out": left_out,
                "workflows": ids,
            }
        )
        return
    session.show(Text(f"{wanted.command}: {counted(len(ids), 'workflow')}", style="bold"))
    for (route, step), count in kinds.most_common(_KINDS):
        where = f", step {printable(step)}" if step else ""
        session.show(Text(f"  {count:,} of {printable(route)}{where}"))
    if len(kinds) > _KINDS:
        session.show(Text(f"  and {len(kinds) - _KINDS:,} other kinds", style="dim"))
    if left_out:
        session.show(Text(f"  left out: {printable(_why_out(left_out))}", style="dim"))
    if dry_run:
        session.note("this was a dry run, nothing is sent")


def _confirm(session: Session, count: int) -> None:
    if count <= TYPED_FROM or not session.is_interactive:
        session.confirm_apply()
        return
    typed = click.prompt(f"These are {count:,} workflows. Type the number to go on", err=True)
    if typed.strip().replace(",", "") != str(count):
        raise OperatorError("nothing is applied")


async def _order(session: Session, wanted: Wanted, options: BulkOptions, chosen: _Chosen) -> None:
    # at least as long as it takes at this rate
    wait_s = 0 if options["detach"] else len(chosen.ids) / options["rate"] + wanted.timeout_s
    order_it = _order_at_broker if session.api is None else _order_at_console
    view = await order_it(session, wanted, options, chosen, wait_s)
    tell(session, view)
    if view.counts["waiting"] and not options["detach"]:
        raise TimeoutError(
            f"not decided on yet: {counted(view.counts['waiting'], 'workflow')} of operation {view.item.id}; it goes on "
            f"when a router is alive (`mesh status`); `mesh operations show {view.item.id}` has the results"
        )
    exit_if_refused(view)


async def _order_at_broker(
    session: Session, wanted: Wanted, options: BulkOptions, chosen: _Chosen, wait_s: float
) -> View:
    workflow_ids = list(chosen.ids)
    operation = f"op-{session.fresh_id()[:12]}"
    ordered = Ordered(
        operation=operation,
        command=wanted.command,
        total=len(workflow_ids),
        chunks=0,
        rate=options["rate"],
        by=wanted.by,
        reason=wanted.reason,
        at_ms=session.now_ms(),
        step=wanted.at,
        input=wanted.input,
        output=wanted.output,
        to=dict(chosen.refined.to),
        filter=chosen.words,
    )
    async with opened(session, read_only=False) as (broker, model, reader):
        await order(broker, session.topics, ordered, workflow_ids, chosen.refined.forks)
        _note(session, operation)
        view = await follow(session, partial(look, model, reader, operation), wait_s)
        return with_results(model, reader, view)


async def _order_at_console(
    session: Session, wanted: Wanted, options: BulkOptions, chosen: _Chosen, wait_s: float
) -> View:
    api = session.api
    if api is None:
        raise AssertionError("only where the console is asked")
    order_of = BulkOrder(
        preview=chosen.preview, reason=wanted.reason, rate=options["rate"], input=wanted.input, output=wanted.output
    )
    operation = (await api.order(order_of)).id
    _note(session, operation)
    await follow(session, partial(look_at_console, api, operation), wait_s)
    return await at_console(api, operation)


def _note(session: Session, operation: str) -> None:
    session.note(f"operation {operation}: it goes on without this command (`mesh operations show {operation}`)")
