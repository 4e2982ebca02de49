"""What is known of every value that a route's expressions can read.

Owns the shapes of steps' outputs and of items. An output's shape comes from its agent's schema and
from what the route writes; an item's shape comes from its list. `mesh.inspection.checks` uses it;
`mesh.inspection.inference.value_types` has the shapes themselves.
"""

from typing import Final

from mesh.core.route import AgentWork, ApprovalWork, CallWork, EmitWork, EndWork, Route, Step, ValueWork, WaitWork
from mesh.inspection.checks.finding import Known
from mesh.inspection.inference.value_types import (
    ANYTHING,
    NULL,
    NUMBER,
    TEXT,
    TRUTH,
    Fields,
    Found,
    Items,
    Many,
    Of,
    Shape,
    alternatives,
    follow,
    one_of,
    shape_of,
)
from mesh.routes.expressions.paths import Segments

_VERDICTS: Final = ("approved", "rejected", "skipped")
_ALWAYS: Final = ("", "succeeded", "skipped", "blocked", "cancelled")
_ITEMS: Final = 50  # items of a written-out list that are looked at
_VOTE: Final = Fields({"by": TEXT, "for": TEXT, "choice": TEXT, "reason": TEXT, "form": ANYTHING, "at": TEXT})
_VOTED: Final[dict[str, Shape]] = {
    "choice": TEXT,
    "form": ANYTHING,
    "edition": NUMBER,
    "expired": TRUTH,
    "editors": Many(TEXT),
    "votes": Many(_VOTE),
}
"""What an approval of several people gives beside what every approval gives."""
_EVENT: Final = Of(
    {
        "type": "object",
        "properties": {
            **{name: {"type": "string"} for name in ("specversion", "id", "source", "type", "subject", "time")},
            **{name: {"type": "string"} for name in ("datacontenttype", "dataschema", "data_base64")},
            "data": {},
        },
        "required": ["specversion", "id", "source", "type", "data"],
        "additionalProperties": {"type": "string"},
    },
    {},
)
"""What a wait gives: CloudEvents' JSON format, with extensions.

Nothing is known of `data`: the one who reads it knows what the event carries.
"""


class Shapes:
    def __init__(self, route: Route, known: Known, callers: tuple[str, ...] = ()) -> None:
        """Begin with nothing known.

        `callers`: the routes whose calls led here. They stop the search when two routes call each
        other.
        """
        self._route = route
        self._known = known
        self._callers = callers or (route.name,)
        self._outputs: dict[str, Shape] = {}

    def at(self, segments: Segments, item: Shape = ANYTHING) -> Found:
        """What a path leads to, as an expression reads it with this item of its step's for-each."""
        match segments[0]:
            case "workflow":
                return Found(shape=TEXT)
            case "index" | "round":
                return Found(shape=NUMBER)
            case "item":
                return follow(item, segments[1:], "item")
            case "steps" if len(segments) > 1 and segments[1] in self._route.steps:
                name = str(segments[1])
                return follow(self.output(name), segments[2:], f"steps.{name}")
            case "status" if len(segments) > 1 and segments[1] in self._route.steps:
                return Found(shape=_statuses(self._route.steps[str(segments[1])]))
            case _:
                return Found(shape=ANYTHING)

    def of_template(self, template: object, item: Shape = ANYTHING) -> Shape:
        def at(segments: Segments) -> Shape:
            found = self.at(segments, item)
            return ANYTHING if found.missing else found.shape

        return shape_of(template, at)

    def items_of(self, name: str) -> list[Shape]:
        """The shapes that the items of a for-each can have.

        One shape for all of them, or one for each item if the route writes the list out.
        """
        each = self._route.steps[name].for_each
        if each is None:
            return [ANYTHING]
        items = self.of_template(each.items.source)
        if isinstance(items, Items):
            return items.items[:_ITEMS] or [ANYTHING]
        found = follow(items, (0,), "item")
        return [ANYTHING if found.missing else found.shape]

    def output(self, name: str) -> Shape:
        """The shape that expressions read as `steps.<name>`, if the step has succeeded."""
        if name not in self._outputs:
            # stops the recursion: in a loop, two steps may read each other
            self._outputs[name] = ANYTHING
            self._outputs[name] = self._output(self._route.steps[name])
        return self._outputs[name]

    def _output(self, step: Step) -> Shape:
        match step.work:
            case AgentWork():
                return self._of_agents(step, step.work)
            case ApprovalWork():
                payload = self._payload(step.work)
                verdict = one_of(*_VERDICTS)
                own: dict[str, Shape] = {
                    "verdict": verdict,
                    "payload": payload,
                    "by": TEXT,
                    "reason": TEXT,
                    "edited": TRUTH,
                }
                one = Fields(own if step.work.voting is None else own | _VOTED)
                return self._of_each(step, one)
            case WaitWork():
                return NULL if step.work.event is None else _EVENT
            case ValueWork():
                return self.of_template(step.work.value.source)
            case EmitWork():
                return Fields({"id": TEXT, "type": TEXT})
            case CallWork():
                return self._of_each(step, self._of_call(step.work))
            case _:
                return ANYTHING

    def _of_agents(self, step: Step, work: AgentWork) -> Shape:
        """The shape of an agent's output: that of any agent that may have the task in the end."""
        others = sorted(work.handover.to - {work.agent}) if work.handover else []
        output = alternatives([self._known.output(work), *(self._known.output_of(agent) for agent in others)])
        return self._of_each(step, output)

    def _of_each(self, step: Step, output: Shape) -> Shape:
        """The output as it is, or for a for-each a list of them.

        The list has null for items that failed, if the for-each tolerates any.
        """
        if step.for_each is None:
            return output
        may_fail = step.for_each.tolerate > 0 or step.for_each.tolerate_share > 0
        return Many(alternatives([output, NULL]) if may_fail else output)

    def _of_call(self, work: CallWork) -> Shape:
        """The shape of what a called workflow gives.

        That is its route's output, or the outputs of the steps that no other step needs.
        """
        called = self._known.routes.get(work.route) if self._known.routes is not None else None
        if called is None or called.name in self._callers:
            return ANYTHING
        inside = Shapes(called, self._known, (*self._callers, called.name))
        if called.output is not None:
            return inside.of_template(called.output.source)
        if any(isinstance(step.work, EndWork) for step in called.steps.values()):
            return ANYTHING
        return Fields(
            {
                name: ANYTHING if step.condition else inside.output(name)
                for name, step in called.steps.items()
                if not called.dependents[name]
            }
        )

    def _payload(self, work: ApprovalWork) -> Shape:
        """The shape that an approval passes on.

        That is the schema that edits must meet, if there is one, else what the approval asks about.
        """
        if work.payload_schema is not None:
            return Of(work.payload_schema, work.payload_schema)
        return self.of_template(work.payload.source)


def _statuses(step: Step) -> Of:
    """The values that `status` can have for this step."""
    match step.work:
        case ApprovalWork():
            return one_of(*_ALWAYS, "rejected")
        case AgentWork(on_exhausted="continue") | CallWork(on_exhausted="continue"):
            return one_of(*_ALWAYS, "failed")
        case _:
            return one_of(*_ALWAYS)
