"""What the screen shows when a run is over.

Owns which of the ordinary commands are shown with their output, and what to try next. It must not
judge: `checks` does. `command` calls it.
"""

import shlex
import subprocess
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mesh.cli.demo.checks import Check
from mesh.cli.demo.folder import LAST, ROOT, RunFolder
from mesh.cli.demo.script import AGENT_MODULES, DESK, Script, short_id
from mesh.cli.session import Session
from mesh.cli.text.format import printable


def show_ends(session: Session, script: Script, folder: RunFolder) -> None:
    """Show every workflow, the dead letter, and the timeline of the workflow whose agent failed.

    The ordinary commands print them.
    """
    _, faulty = script.faulty
    for arguments, what in (
        (("workflows",), "How the workflows ended"),
        (("dlq", "list"), "The event that can't be read is kept as it came"),
        (("workflow", short_id(faulty.workflow)), "One workflow, and the reason for every dispatch"),
    ):
        session.show(Text(f"\n{what}", style="bold"), Text(f"$ {folder.command} {' '.join(arguments)}\n", style="cyan"))
        session.out.file.flush()
        subprocess.run([folder.command, *arguments], check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command


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


def next_steps(script: Script, folder: RunFolder) -> list[RenderableType]:
    """Commands to copy. Each names the run's own `mesh`, so that it touches no other mesh."""
    mesh = shlex.quote(str(folder.command))
    asked = next(one for one in script.workflows if one.review == "approve")
    unwanted = next(one for one in script.deliveries if one.end == "unmatched")
    modules = ",".join(module.rpartition(".")[2] for module in AGENT_MODULES)
    look = [
        (f"{mesh} status", "the mesh on one screen"),
        (f"{mesh} workflow {short_id(script.faulty[1].workflow)} --payloads", "what each agent was told and said"),
        (f"{mesh} event {asked.delivery[:8]}", "what became of an event"),
        (f"{mesh} event {unwanted.delivery[:8]}", "why nobody wants this one"),
    ]
    again = [
        (f"{mesh} dev {DESK}.{{{modules}}}", ""),
        (
            f"{mesh} publish --github {shlex.quote(str(folder.new_issue))}",
            "in another shell: an issue it does not know",
        ),
        (f"{mesh} approvals answer", "answer its question"),
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
    """One command a line, never wrapped: what is copied must be whole."""
    width = max(len(command) for command, meaning in commands if meaning)
    text = Text(no_wrap=True, overflow="ignore")
    for number, (command, meaning) in enumerate(commands):
        text.append("\n" if number else "")
        text.append(f"  {command}", style="cyan")
        if meaning:
            text.append(" " * (width - len(command)) + f"  # {meaning}", style="dim")
    return text
