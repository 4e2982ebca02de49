"""What stands on the screen when a run is over: how everything ended, one workflow's timeline, and
what to try next.

Owns the words. It judges nothing (`checks` does) and renders timelines as `mesh workflow` does.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mesh.cli.approvals.commands import UNEDITED
from mesh.cli.demo.checks import Check, wanted_end
from mesh.cli.demo.conductor import Ended
from mesh.cli.demo.folder import LAST, ROOT, RunFolder
from mesh.cli.demo.prompt import Answer
from mesh.cli.demo.script import AGENT_MODULES, DESK, Delivery, Script, short_id
from mesh.cli.demo.view import View
from mesh.cli.text.events import END_STYLES
from mesh.cli.text.format import duration, one_line, printable
from mesh.cli.text.timeline import rows
from mesh.cli.text.timeline import table as timeline_table
from mesh.cli.text.workflow import header
from mesh.core.state import Workflow
from mesh.inspection.read_model import ReadModel, queries

WORDS: Final = {
    "repeated": "repeated",
    "unmatched": "unwanted",
    "dead_letter": "dead letter",
}


def ends_table(script: Script, ended: Ended) -> Table:
    """Every event, in the order in which they were sent, with its end and how it came to it."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("  EVENT", no_wrap=True, overflow="ellipsis", width=32)
    table.add_column("END", no_wrap=True)
    table.add_column("HOW", overflow="fold")
    table.add_column("TOOK", no_wrap=True, justify="right")
    for delivery in script.deliveries:
        end = ended.view.end_of(delivery)
        is_right = end == wanted_end(delivery, ended.answers)
        sign = Text("✓ ", style="green") if is_right else Text("✗ ", style="bold red")
        what = Text(f"{delivery.short} ", style="bold") + Text(one_line(delivery.title), style="default")
        workflow = ended.view.workflows.get(delivery.workflow) if delivery.starts else None
        table.add_row(
            sign + what,
            Text(WORDS.get(end, end or "none"), style=END_STYLES.get(end, "default")),
            Text(_how(delivery, workflow, ended.answers), style="dim"),
            _took(workflow),
        )
    return table


def _how(delivery: Delivery, workflow: Workflow | None, answers: Mapping[str, Answer]) -> str:
    match delivery.end:
        case "repeated":
            return "sent twice, started once"
        case "unmatched":
            return "no route wants it"
        case "dead_letter":
            return "kept as it came"
    if workflow is None:
        return "it did not start"
    said = [f"{name}: {state.attempt} attempts" for name, state in workflow.steps.items() if state.attempt > 1]
    answer = answers.get(delivery.workflow)
    if answer is not None:
        who = "script" if answer.scripted else "you"
        edited = "edited, " if answer.payload is not UNEDITED else ""
        said.append(f"{who}: {edited}{'approved' if answer.decision == 'approve' else 'rejected'}")
        if answer.reason:
            said[-1] += f", {one_line(answer.reason)}"
    return "; ".join(said) or "needed nobody"


def _took(workflow: Workflow | None) -> str:
    if workflow is None or workflow.ended_at_ms is None:
        return ""
    return duration(workflow.ended_at_ms - workflow.started_at_ms)


def checks_table(checks: Sequence[Check]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in checks:
        sign = Text("✗", style="bold red") if one.problem else Text("✓", style="green")
        text = Text(one.what, style="default")
        if one.problem:
            text.append(f"\nno: {printable(one.problem)}", style="red")
        table.add_row(sign, text)
    return table


def timeline(script: Script, view: View, model: ReadModel, now_ms: int) -> list[RenderableType]:
    """The workflow that failed and was retried, as `mesh workflow` shows it."""
    _, delivery = script.faulty
    workflow = view.workflows[delivery.workflow]
    entries = queries.decisions_of(model.db, delivery.workflow)
    return [header(workflow, now_ms), Text(""), timeline_table(rows(entries, now_ms))]


def next_steps(script: Script, folder: RunFolder) -> list[RenderableType]:
    """Commands to copy. The first makes all others be about this run."""
    _, faulty = script.faulty
    here = shlex.quote(str(folder.env_file))
    asked = next(one for one in script.workflows if one.review == "approve")
    unwanted = next(one for one in script.deliveries if one.end == "unmatched")
    modules = ",".join(module.rpartition(".")[2] for module in AGENT_MODULES)
    look = [
        (f". {here}", "let `mesh` mean this run"),
        ("mesh status", "the mesh on one screen"),
        ("mesh workflows", "all of them, and how they ended"),
        (f"mesh workflow {short_id(faulty.workflow)} --payloads", "what each agent was told and said"),
        (f"mesh event {asked.delivery[:8]}", "what became of an event"),
        (f"mesh event {unwanted.delivery[:8]}", "why nobody wants this one"),
        ("mesh dlq list", "the one that can't be read"),
    ]
    again = [
        (f"mesh dev {DESK}.{{{modules}}}", ""),
        (f". {here}", "in another shell"),
        (f"mesh publish --github {shlex.quote(str(folder.new_issue))}", "an issue it does not know"),
        ("mesh approvals", "answer its question"),
    ]
    return [
        Text("\nWhat to try next\n", style="bold"),
        Text("The processes are stopped. These commands read the log that they leave:\n", style="dim"),
        _commands(look),
        Text("\nTo start the mesh again on the same log, until Ctrl-C:\n", style="dim"),
        _commands(again),
        Text(
            f"\nThe replies are in {folder.outbox}, the logs in {folder.path}/*.log; {ROOT / LAST} is the last run.",
            style="dim",
        ),
    ]


def _commands(commands: Sequence[tuple[str, str]]) -> Text:
    """One a line, never broken: what is copied must be whole."""
    width = max(len(command) for command, meaning in commands if meaning)
    text = Text(no_wrap=True, overflow="ignore")
    for number, (command, meaning) in enumerate(commands):
        text.append("\n" if number else "")
        text.append(f"  {command}", style="cyan")
        if meaning:
            text.append(" " * (width - len(command)) + f"  # {meaning}", style="dim")
    return text
