"""Which open approvals are meant: the filters of `mesh approvals list` and of answers to many.

Owns the options, and what they mean as `mesh.inspection.inbox.Filters`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from mesh.cli.approvals.mine import only_for, own_of
from mesh.cli.moments import moment
from mesh.cli.session import Session
from mesh.core.route import ExpressionError
from mesh.inspection.inbox import Filters
from mesh.ports import Broker
from mesh.routes.values import LONGEST_S, seconds_of

if TYPE_CHECKING:
    from mesh.routes.expressions.compiler import CompiledExpression

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

NAMES: Final = ("role", "mine", "route", "due", "asked_before", "condition")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The options as they were given."""

    role: str | None = None
    mine: bool = False
    route: str | None = None
    due: str | None = None
    asked_before: str | None = None
    condition: str | None = None

    @property
    def is_empty(self) -> bool:
        return self == Wanted()


class Payloads:
    """A condition on payloads.

    `unfit`: for how many it could not be evaluated. They are not meant.
    """

    def __init__(self, source: str) -> None:
        self.unfit = 0
        self.why = ""
        self._condition = _compiled(source)

    def __call__(self, payload: Any) -> bool:
        try:
            return self._condition.is_true({"payload": payload})
        except ExpressionError as error:
            self.unfit += 1
            self.why = str(error)
            return False


def filtered(function: Decorated) -> Decorated:
    """Add the filters' options, passed by the names of `Wanted`."""
    for option in (
        click.option(
            "--if",
            "condition",
            metavar="EXPRESSION",
            help="Only those whose payload fits, in the language of routes: 'payload.amount < 100'.",
        ),
        click.option("--asked-before", metavar="WHEN", help="Only those asked before: 2d (ago), or a time."),
        click.option("--due", metavar="DURATION", help="Only those whose deadline is that near: 4h."),
        click.option("--route", metavar="ROUTE", help="Only those that this route asks."),
        click.option(
            "--mine",
            is_flag=True,
            help="Only those that wait for you, or for whom you answer (see --by); the list has questions to you, too.",
        ),
        click.option("--role", metavar="ROLE", help="Only those that this role may answer, also as one of several."),
    ):
        function = option(function)
    return function


def wanted_of(options: dict[str, Any]) -> Wanted:
    """Take the filters out of a command's options."""
    return Wanted(**{name: options.pop(name) for name in NAMES})


async def filters_of(
    session: Session, broker: Broker, wanted: Wanted, by: str, *, on_behalf: str = "", is_listed: bool = False
) -> Filters:
    """What the options mean now. `by`: whose approvals `--mine` is about.

    `on_behalf`: only what they may answer for this person. `is_listed`: also what they may answer
    for anybody, and where they were asked a question.
    """
    now_ms = session.now_ms()
    own, people = await own_of(session, broker, by) if wanted.mine else (None, None)
    mine = None if own is None else only_for(own, on_behalf, people) if on_behalf else own.mine
    return Filters(
        role=wanted.role,
        mine=None if mine is None else msgspec.structs.replace(mine, is_asked=is_listed),
        others=own.others if own is not None and is_listed else (),
        route=wanted.route,
        due_before_ms=None if wanted.due is None else now_ms + _milliseconds(wanted.due),
        asked_before_ms=None if wanted.asked_before is None else moment(wanted.asked_before, now_ms, "--asked-before"),
        payload=None if wanted.condition is None else Payloads(wanted.condition),
    )


def tell_unfit(session: Session, filters: Filters) -> None:
    """Say for how many payloads the condition could not be evaluated."""
    if isinstance(filters.payload, Payloads) and filters.payload.unfit:
        session.note(
            f"--if could not be evaluated for {filters.payload.unfit:,}, which are left out: {filters.payload.why}"
        )


def _milliseconds(text: str) -> int:
    seconds = seconds_of(text)
    if seconds is None or not 0 < seconds <= LONGEST_S:
        raise click.BadParameter(f"{text!r} is not a duration: write 30m, 4h or 2d", param_hint="--due")
    return int(seconds * 1_000)


def _compiled(source: str) -> "CompiledExpression":
    from mesh.routes.expressions.compiler import compile_expression  # noqa: PLC0415 - slow to load
    from mesh.routes.expressions.tokens import ExpressionSyntaxError  # noqa: PLC0415 - slow to load

    try:
        found = compile_expression(source)
    except ExpressionSyntaxError as error:
        raise click.BadParameter(str(error), param_hint="--if") from error
    others = sorted(path for path in found.paths if path.partition(".")[0].partition("[")[0] != "payload")
    if others:
        raise click.BadParameter(
            f"it reads {', '.join(others)}; a condition can read `payload` alone", param_hint="--if"
        )
    return found
