"""A route's graph, or one workflow on it, as SVG made on the server.

Owns the layout: ranks by longest path, a row for each rank, from top to bottom. An edge that passes
rows goes through a narrow lane in each of them, so it never crosses a box. Geometry is in
attributes and states are classes, because the policy of the pages allows no inline style. What the
boxes say comes from `mesh.inspection.diagram`, as in the picture of the command line.
"""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Final, NamedTuple, assert_never
from urllib.parse import quote

from markupsafe import Markup, escape

from mesh.console.words import step_hue
from mesh.core.route import AgentWork, ApprovalWork, CallWork, EmitWork, EndWork, Route, Step, ValueWork, WaitWork
from mesh.core.state import Workflow
from mesh.inspection.diagram import (
    END,
    START,
    Edge,
    StepTime,
    about_step,
    edges_of,
    is_gone,
    node_of,
    said_of_state,
    status_of,
)
from mesh.inspection.wording.plain import one_line

WIDTH: Final = 158
HEIGHT: Final = 50
FLAT: Final = 32  # of a row that has ends alone
LANE: Final = 10
GAP_X: Final = 18
GAP_Y: Final = 34
PAD: Final = 8
SIDE: Final = 76  # room for loops
TEXT: Final = 24  # characters of a box's line
NAME: Final = 21  # the same, in larger type
MOST_BOXES: Final = 60


class Box(NamedTuple):
    """`kind`: task, ask, wait, call, value, emit or end; `step`: whose box it is."""

    kind: str
    name: str
    said: str = ""
    hue: str = ""
    is_many: bool = False
    step: str = ""


class _Lane(NamedTuple):
    """Where an edge passes a row."""

    before: str
    after: str
    rank: int


_Place = str | _Lane


class _At(NamedTuple):
    x: float  # the middle
    y: float  # the top
    height: float


def draw(route: Route, workflow: Workflow, times: Mapping[str, StepTime], *, now_ms: int, link: str) -> Markup:
    """The picture of a workflow. `link`: a URL to which a step's name is added."""
    boxes = {START: Box("end", _start(route), hue="good")}
    for name, step in route.steps.items():
        status = status_of(name, workflow)
        said = about_step(step) if status == "to_come" else said_of_state(name, workflow, times.get(name), now_ms)
        boxes[node_of(name)] = Box(_kind(step), name, said[0], step_hue(status), step.for_each is not None, step=name)
    is_over = workflow.status not in {"running", "expected", "standing"}
    boxes[END] = Box("end", workflow.status if is_over else "end", hue=_end_hue(workflow.status) if is_over else "late")
    return _svg(boxes, edges_of(route), workflow, link, f"The steps of {route.name}, and the way of this run")


def draw_route(route: Route, counts: Mapping[str, Mapping[str, int]], *, link: str) -> Markup:
    """The picture of a version. `counts`: how many workflows are at a step now, by its status.

    `link`: a URL to which a step's name is added.
    """
    boxes = {START: Box("end", _start(route))}
    for name, step in route.steps.items():
        now = counts.get(name, {})
        said, hue = _said_of_counts(now) if now else (about_step(step)[0], "")
        boxes[node_of(name)] = Box(_kind(step), name, said, hue, step.for_each is not None, step=name)
    boxes[END] = Box("end", "end")
    return _svg(boxes, edges_of(route), None, link, f"The steps of {route.name}")


def _said_of_counts(counts: Mapping[str, int]) -> tuple[str, str]:
    """What is said of the workflows at a step, and its hue: the worst first."""
    order = sorted(counts, key=lambda status: _WORST.index(status) if status in _WORST else len(_WORST))
    said = ", ".join(f"{counts[status]:,} {_counted(status, counts[status])}" for status in order)
    return said, step_hue(order[0])


_WORST: Final = ("incident", "asking", "waiting", "held", "queued")


def _counted(status: str, count: int) -> str:
    match status:
        case "incident":
            return "incident" if count == 1 else "incidents"
        case "asking":
            return "asks" if count == 1 else "ask"
        case "iterating" | "calling" | "claiming" | "again":
            return "running"
        case _:
            return status


def _start(route: Route) -> str:
    if route.on is None:
        return "called"
    return route.on.schedule.cron if route.on.schedule is not None else route.on.type


def _end_hue(status: str) -> str:
    return {"completed": "good", "rejected": "no", "failed": "bad"}.get(status, "off")


def _kind(step: Step) -> str:
    match step.work:
        case ApprovalWork():
            return "ask"
        case CallWork():
            return "call"
        case WaitWork():
            return "wait"
        case ValueWork():
            return "value"
        case EmitWork():
            return "emit"
        case EndWork():
            return "end"
        case AgentWork():
            return "task"
        case _:
            assert_never(step.work)


# Layout -------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    at: dict[_Place, _At]
    paths: dict[tuple[str, str], list[_Place]]
    width: float
    height: float


def _layout(boxes: Mapping[str, Box], pairs: Sequence[tuple[str, str]], *, room: int) -> _Layout:
    needs: dict[str, list[str]] = {name: [] for name in boxes}
    for before, after in pairs:
        needs[after].append(before)
    rank: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        rank[name] = max((rank[one] + 1 for one in needs[name]), default=0)
    rows: list[list[_Place]] = [[] for _ in range(max(rank.values()) + 1)]
    for name in boxes:
        rows[rank[name]].append(name)
    above: dict[_Place, list[_Place]] = {}
    paths: dict[tuple[str, str], list[_Place]] = {}
    for before, after in pairs:
        lanes = [_Lane(before, after, number) for number in range(rank[before] + 1, rank[after])]
        path: list[_Place] = [before, *lanes, after]
        paths[before, after] = path
        for lane in lanes:
            rows[lane.rank].append(lane)
        for first, second in pairwise(path):
            above.setdefault(second, []).append(first)
    _order(rows, above)
    return _placed(rows, boxes, paths, room)


def _order(rows: list[list[_Place]], above: Mapping[_Place, Sequence[_Place]]) -> None:
    """Sort each row by the mean place of what is above it, in two passes."""
    for _ in range(2):
        place: dict[_Place, float] = {}
        for row in rows:
            means = {one: sum(place[up] for up in above[one]) / len(above[one]) for one in row if one in above}
            row.sort(key=lambda one: means.get(one, 0.0))
            place |= {one: (number + 0.5) / len(row) for number, one in enumerate(row)}


def _placed(
    rows: Sequence[Sequence[_Place]],
    boxes: Mapping[str, Box],
    paths: dict[tuple[str, str], list[_Place]],
    room: int,
) -> _Layout:
    widths = [sum(map(_width, row)) + GAP_X * (len(row) - 1) for row in rows]
    at: dict[_Place, _At] = {}
    y: float = PAD
    for row, width in zip(rows, widths, strict=True):
        is_flat = all(boxes[one].kind == "end" for one in row if isinstance(one, str))
        height = FLAT if is_flat else HEIGHT
        x = (max(widths) - width) / 2 + PAD
        for one in row:
            at[one] = _At(x + _width(one) / 2, y, height)
            x += _width(one) + GAP_X
        y += height + GAP_Y
    return _Layout(at, paths, max(widths) + 2 * PAD + room, y - GAP_Y + PAD)


def _width(place: _Place) -> int:
    return LANE if isinstance(place, _Lane) else WIDTH


# Drawing ------------------------------------------------------------------------------------------


def _svg(boxes: Mapping[str, Box], edges: Sequence[Edge], workflow: Workflow | None, link: str, title: str) -> Markup:
    ways = [edge for edge in edges if edge.line == "-->" and edge.before in boxes and edge.after in boxes]
    loops = [edge for edge in edges if edge.line == "-.->" and edge.before in boxes and edge.after in boxes]
    pairs = list(dict.fromkeys((edge.before, edge.after) for edge in ways))
    layout = _layout(boxes, pairs, room=SIDE if loops else 0)
    gone = {(edge.before, edge.after) for edge in ways if workflow is not None and is_gone(edge, workflow)}
    parts: list[Markup] = []
    for pair, path in layout.paths.items():
        is_ahead = boxes[pair[1]].hue == "late"
        hue = _edge_hue(boxes[pair[1]]) if pair in gone else "late" if is_ahead else ""
        parts.append(_edge(layout.at, path, hue))
    parts += [_loop(layout, loop) for loop in loops]
    parts += [_box(box, layout.at[name], link) for name, box in boxes.items()]
    size = Markup('width="{0:g}" height="{1:g}" viewBox="0 0 {0:g} {1:g}"').format(layout.width, layout.height)
    return Markup('<svg class="graph" {} role="group" aria-label="{}">{}</svg>').format(
        size, title, Markup("").join(parts)
    )


def _edge_hue(after: Box) -> str:
    return "went stuck" if after.hue == "bad" else "went"


def _edge(at: Mapping[_Place, _At], path: Sequence[_Place], hue: str) -> Markup:
    x, top, height = at[path[0]]
    y, line = top + height, [f"M{x:g} {top + height:g}"]
    for place in path[1:]:
        before_x, (x, top, height) = x, at[place]
        end = top if isinstance(place, _Lane) else top - 5
        line.append(f"C{before_x:g} {(y + end) / 2:g} {x:g} {(y + end) / 2:g} {x:g} {end:g}")
        y = end
        if isinstance(place, _Lane):
            y = top + height
            line.append(f"V{y:g}")
    tip = f"M{x - 4:g} {y - 1:g}h8l-4 6z"
    return Markup('<path class="edge {0}" d="{1}"/><path class="tip {0}" d="{2}"/>').format(hue, "".join(line), tip)


def _loop(layout: _Layout, loop: Edge) -> Markup:
    first, last = layout.at[loop.after], layout.at[loop.before]
    side = layout.width - SIDE + 26
    y_last, y_first = last.y + last.height / 2, first.y + first.height / 2
    line = f"M{last.x + WIDTH / 2:g} {y_last:g}C{side:g} {y_last:g} {side:g} {y_first:g} {first.x + WIDTH / 2 + 6:g} {y_first:g}"
    tip = f"M{first.x + WIDTH / 2 + 7:g} {y_first - 4:g}v8l-6-4z"
    bound = loop.label.partition(",")[0]
    return Markup(
        '<path class="edge late" d="{}"/><path class="tip" d="{}"/><text class="sub left" x="{:g}" y="{:g}">{}</text>'
    ).format(line, tip, side - 8, (y_last + y_first) / 2 + 4, bound)


def _box(box: Box, at: _At, link: str) -> Markup:
    shapes = Markup("").join(_shapes(box, at.x - WIDTH / 2, at.y, at.height))
    lines = [("name", box.name), *([("sub", box.said)] if box.said and box.kind != "end" else [])]
    texts = Markup("").join(
        Markup('<text class="{}" x="{:g}" y="{:g}">{}</text>').format(
            kind,
            at.x,
            at.y + at.height / 2 + (4 if len(lines) == 1 else -4 + 16 * number),
            one_line(text, TEXT if kind == "sub" else NAME),
        )
        for number, (kind, text) in enumerate(lines)
    )
    body = shapes + texts
    if box.step:
        label = one_line(f"{box.name}: {box.said}")
        body = Markup('<a href="{}{}" aria-label="{}">{}</a>').format(link, quote(box.step, safe=""), label, body)
    return Markup('<g class="{}">{}</g>').format(box.hue, body)


def _shapes(box: Box, x: float, y: float, height: float) -> Iterator[Markup]:
    r, b, half = x + WIDTH, y + height, height / 2
    if box.is_many:
        yield _rect(x + 5, y + 5, height, 7)
    match box.kind:
        case "ask":
            yield _path(
                f"M{x + 14:g} {y:g}H{r - 14:g}L{r:g} {y + half:g}L{r - 14:g} {b:g}H{x + 14:g}L{x:g} {y + half:g}Z"
            )
        case "wait":
            yield _path(
                f"M{x + 7:g} {y:g}H{r - half:g}A{half:g} {half:g} 0 0 1 {r - half:g} {b:g}H{x + 7:g}Q{x:g} {b:g} {x:g} {b - 7:g}V{y + 7:g}Q{x:g} {y:g} {x + 7:g} {y:g}Z"
            )
        case "value":
            yield _path(f"M{x + 12:g} {y:g}H{r:g}L{r - 12:g} {b:g}H{x:g}Z")
        case "emit":
            yield _path(f"M{x:g} {y:g}H{r - 12:g}L{r:g} {y + half:g}L{r - 12:g} {b:g}H{x:g}Z")
        case "end":
            yield _rect(x, y, height, half)
        case kind:
            yield _rect(x, y, height, 7)
            if kind == "call":
                yield _path(f"M{x + 7:g} {y:g}V{b:g}M{r - 7:g} {y:g}V{b:g}")


def _path(line: str) -> Markup:
    return Markup('<path class="box" d="{}"/>').format(escape(line))


def _rect(x: float, y: float, height: float, radius: float) -> Markup:
    return Markup('<rect class="box" x="{:g}" y="{:g}" width="{}" height="{:g}" rx="{:g}"/>').format(
        x, y, WIDTH, height, radius
    )
