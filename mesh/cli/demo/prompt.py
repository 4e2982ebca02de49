"""The questions to the person at the prompt: one approval after the other, one key each.

Owns what is shown of an approval, and which keys there are. Asking blocks this process alone: the
mesh runs in five others, which go on. `conductor` calls it.
"""

from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mesh.cli.approvals import commands
from mesh.cli.approvals.commands import UNEDITED, Waiting, edit
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.demo.script import Delivery
from mesh.cli.session import Session
from mesh.cli.text.format import one_line, printable, readable
from mesh.core.state import Workflow

KEYS: Final = (
    ("a", "approve"),
    ("r", "reject"),
    ("e", "edit first"),
    ("s", "leave it to the script"),
    ("q", "quit"),
)
CARD_WIDTH: Final = 100
EXCERPT: Final = 300
SURE: Final = 0.7  # from this confidence on, the route does not ask anybody


class Answer(commands.Answer, frozen=True, kw_only=True):
    """An answer. `scripted`: the manifest gave it, not the person."""

    scripted: bool = False


def ask(session: Session, one: Waiting, delivery: Delivery, workflow: Workflow, *, position: str) -> Answer | None:
    """Ask the person. Returns their answer, or None if the script should answer.

    Raises `KeyboardInterrupt` if they want to leave.
    """
    session.show(
        "", card(one, delivery, workflow, position=position, width=min(session.out.width, CARD_WIDTH)), _keys()
    )
    with interruptible():
        while True:
            match click.getchar().lower():
                case "a":
                    return Answer(decision="approve")
                case "r":
                    reason = click.prompt("  reason", default="", show_default=False)
                    return Answer(decision="reject", reason=reason)
                case "e":
                    payload = edit(session, one.request)
                    if payload is not UNEDITED:
                        return Answer(decision="approve", payload=payload)
                    session.show(_keys())
                case "s":
                    return None
                case "q" | "\x03" | "\x04":
                    raise KeyboardInterrupt
                case _:
                    continue


def _keys() -> Text:
    line = Text("  ")
    for key, meaning in KEYS:
        line.append(key, style="bold cyan")
        line.append(f" {meaning}   ", style="default")
    return line


def card(one: Waiting, delivery: Delivery, workflow: Workflow, *, position: str, width: int) -> Panel:
    """The question, what it is about, why it is asked, and the whole reply to be posted."""
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, value in (
        ("issue", f"{delivery.short}  {delivery.title}"),
        ("says", one_line(str(delivery.issue.get("body") or "(nothing)"), EXCERPT)),
        ("asked", f"because {why_asked(workflow) or one.request.reason}"),
    ):
        facts.add_row(Text(name, style="dim"), Text(printable(value)))
    parts: list[RenderableType] = [
        Text(printable(one.row.question), style="bold"),
        Text(""),
        facts,
        Text(""),
        *_reply(one.request.payload),
    ]
    return Panel(
        Group(*parts), title=f" {position} ", title_align="left", border_style="yellow", padding=(0, 2), width=width
    )


def _reply(payload: Any) -> list[Text]:
    if not isinstance(payload, dict) or not isinstance(payload.get("body"), str):
        return [Text(readable(payload))]
    labels = ", ".join(map(str, payload.get("labels") or [])) or "none"
    return [
        Text(printable(payload["body"].strip())),
        Text(""),
        Text("labels  ", style="dim") + Text(printable(labels), style="default"),
    ]


def why_asked(workflow: Workflow) -> str:
    """The values behind the route's condition. Empty if the outputs do not show them."""
    found = {name: state.output for name, state in workflow.steps.items() if isinstance(state.output, dict)}
    triage, duplicates = found.get("classify", {}), found.get("duplicates", {})
    confidence = triage.get("confidence")
    reasons = []
    if triage.get("severity") == "high":
        reasons.append("its severity is high")
    if isinstance(confidence, int | float) and confidence < SURE:
        reasons.append(f"the classifier is only {confidence:.0%} sure")
    if matches := [match for match in duplicates.get("matches", []) if isinstance(match, dict)]:
        reasons.append("it reads like " + ", ".join(f"#{match.get('number')}" for match in matches))
    return " and ".join(reasons)
