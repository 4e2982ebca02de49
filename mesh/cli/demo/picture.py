"""The live picture: the mesh at one moment, made to fit a terminal of 80 columns and 24 lines, and
to use what there is more.

Owns the look. Pure: from a `View` to something that rich can print. Every state is a sign and a
word; colour only repeats them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mesh.cli.demo.news import Item
from mesh.cli.demo.script import Delivery, Script
from mesh.cli.demo.view import AgentView, View
from mesh.cli.text.format import counted, one_line, printable
from mesh.core.state import StepState, Workflow

WIDE: Final = 100  # columns from which there is room for how each workflow ended
# lines besides the workflows and the news, with the one that the cursor stands on
FURNITURE: Final = 9
LONGEST_WORD: Final = 9  # `✓ 2 tries`
LONGEST_VERDICT: Final = 10
LEAST_NEWS: Final = 2
MOST_NEWS: Final = 10

STEPS: Final[dict[str, tuple[str, str, str]]] = {
    "running": ("●", "works", "cyan"),
    "retrying": ("↻", "retry", "yellow"),
    "asking": ("?", "asks", "bold yellow"),
    "calling": ("●", "calls", "cyan"),
    "incident": ("!", "stuck", "bold red"),
    "succeeded": ("✓", "done", "green"),
    "skipped": ("-", "skipped", "dim"),
    "rejected": ("✗", "rejected", "yellow"),
    "blocked": ("-", "blocked", "dim"),
    "cancelled": ("-", "stopped", "dim"),
    "failed": ("✗", "failed", "red"),
}
ENDS: Final[dict[str, tuple[str, str]]] = {
    "running": ("▸", "cyan"),
    "completed": ("✓", "green"),
    "rejected": ("✗", "yellow"),
    "failed": ("✗", "red"),
    "cancelled": ("✗", "dim"),
}


def picture(
    view: View,
    script: Script,
    *,
    title: str,
    steps: Mapping[str, bool],
    news: Sequence[Item],
    partitions: int,
    width: int,
    height: int,
) -> Group:
    """`steps`: the route's, in order, and whether a person works on it.

    `partitions`: of the mesh. `news`: the last items, the newest last.
    """
    rows = script.workflows
    room = max(LEAST_NEWS, min(MOST_NEWS, height - FURNITURE - len(rows)))
    return Group(
        Text(title, style="bold", no_wrap=True, overflow="ellipsis"),
        _events(view, script),
        _processes(view, partitions, width),
        Text(""),
        _workflows(view, rows, steps, width),
        Text(""),
        *_news(news, room),
        _people(view),
    )


def _events(view: View, script: Script) -> Text:
    fates = Counter(view.fates.values())
    line = Text(f"{len(view.sent)} of {len(script.deliveries)} events sent", no_wrap=True, overflow="ellipsis")
    line.append(f"   {counted(fates['started'], 'workflow')}", style="green" if fates["started"] else "dim")
    for fate, words in (("repeated", "repeated"), ("unmatched", "unwanted"), ("dead_letter", "unreadable")):
        line.append(f"   {fates[fate]} {words}", style="default" if fates[fate] else "dim")  # type: ignore[index]  # a literal of `Fate`
    return line


def _processes(view: View, partitions: int, width: int) -> Table:
    """The router and the agents, each over what it does."""
    grid = Table.grid(padding=(0, 2, 0, 0) if width < WIDE else (0, 4, 0, 0))
    taken = view.partitions >= partitions
    names = [_name("router", alive=taken)]
    states = [_state("ready" if taken else "starting", quiet=taken)]
    for agent in view.agents:
        names.append(_name(agent.name, alive=agent.alive))
        states.append(_busy(agent))
    for _ in names:
        grid.add_column(no_wrap=True)
    grid.add_row(*names)
    grid.add_row(*states)
    return grid


def _name(name: str, *, alive: bool) -> Text:
    return Text("● " if alive else "○ ", style="green" if alive else "dim") + Text(name, style="default")


def _state(text: str, *, quiet: bool) -> Text:
    return Text(f"  {text}", style="dim" if quiet else "yellow")


def _busy(agent: AgentView) -> Text:
    if not agent.alive:
        return _state("starting", quiet=False)
    return Text(f"  {counted(agent.tasks, 'task')}", style="cyan") if agent.tasks else _state("idle", quiet=True)


def _workflows(view: View, rows: Sequence[Delivery], steps: Mapping[str, bool], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True, header_style="dim")
    table.add_column("  WORKFLOW", no_wrap=True, overflow="ellipsis", ratio=1)
    for step, is_asked in steps.items():
        name = printable(step).upper()
        table.add_column(name, no_wrap=True, width=max(len(name), LONGEST_VERDICT if is_asked else LONGEST_WORD))
    if width >= WIDE:
        table.add_column("END", no_wrap=True, width=10)
    for delivery in rows:
        workflow = view.workflows.get(delivery.workflow)
        cells = [
            _title(delivery, workflow, wide=width >= WIDE),
            *(step_cell(workflow, step, is_asked=is_asked) for step, is_asked in steps.items()),
        ]
        if width >= WIDE:
            ended = workflow is not None and workflow.status != "running"
            cells.append(Text(workflow.status, style=ENDS[workflow.status][1]) if workflow and ended else Text(""))
        table.add_row(*cells)
    return table


def _title(delivery: Delivery, workflow: Workflow | None, *, wide: bool) -> Text:
    sign, style = ENDS[workflow.status] if workflow is not None else ("·", "dim")
    name = delivery.short if wide else f"#{delivery.issue['number']}"
    text = Text(f"{sign} ", style=style)
    text.append(f"{name} ", style="bold" if workflow else "dim")
    return text.append(one_line(delivery.title), style="default" if workflow else "dim")


def step_cell(workflow: Workflow | None, step: str, *, is_asked: bool) -> Text:
    """A step's state in at most ten characters."""
    if workflow is None:
        return Text("")
    state = workflow.steps.get(step)
    if state is None:
        return Text("·", style="dim")
    sign, word, style = STEPS[state.status]
    return Text(f"{sign} {_word(state, word, is_asked=is_asked)}", style=style)


def _word(state: StepState, word: str, *, is_asked: bool) -> str:
    if state.status == "succeeded" and is_asked:
        return "approved"
    if state.status == "running" and state.attempt > 1:
        return f"try {state.attempt}"
    if state.status == "succeeded" and state.attempt > 1:
        return f"{state.attempt} tries"
    return word


def _news(items: Sequence[Item], room: int) -> list[Text]:
    lines = [news_line(item) for item in items[-room:]]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return [*lines, *[Text("")] * (room - len(lines))]


def news_line(item: Item) -> Text:
    """One item, as the picture and the plain output have it."""
    line = Text(f"{item.symbol} ", style=item.style)
    line.append(f"{printable(item.about)}  ", style="bold")
    line.append(one_line(item.what, 160), style=item.style)
    if item.why:
        line.append(f"  {one_line(item.why, 200)}", style="dim")
    return line


def _people(view: View) -> Text:
    if not view.waiting:
        return Text("")
    waits = (
        "1 question waits for a person"
        if len(view.waiting) == 1
        else f"{len(view.waiting)} questions wait for a person"
    )
    return Text(f"? {waits}", style="bold yellow")
