"""What is known of everything that a route's expressions can read: of the steps' outputs by their
agents' schemas and by what was written, of items by the list that they come from.
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
_ITEMS: Final = 50  # of a list that is written out: more are not looked at
_EVENT: Final = Of(
    {
        "type": "object",
        "properties": {
            **{name: {"type": "string"} for name in ("specversion", "id", "source", "type", "subject", "time")},
            **{name: {"type": "string"} for name in ("datacontenttype", "dataschema", "data_base64")},
            "data": {},
        },
        "required": ["specversion", "id", "source", "type", "data"],
        "additionalProperties": {"type": ["string", "boolean", "integer"]},
    },
    {},
)
"""What a wait gives: CloudEvents' JSON format, with extensions. Who reads `data` knows what the event carries."""


class Shapes:
    def __init__(self, route: Route, known: Known, callers: tuple[str, ...] = ()) -> None:
        """`callers`: the routes whose calls led here, so that two that call each other come to an
        end.
        """
        self._route = route
        self._known = known
        self._callers = callers or (route.name,)
        self._outputs: dict[str, Shape] = {}

    def at(self, segments: Segments, item: Shape = ANYTHING) -> Found:
        """Of a path as an expression reads it, with this item of its step's for-each."""
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
        """What the items of a for-each can be: one shape for all of them, or that of each one that
        is written out.
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
        """What expressions read as `steps.<name>`, where the step has done what it is for."""
        if name not in self._outputs:
            # as long as it is being found out: in a loop two steps may read each other
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
                return Fields({"verdict": verdict, "payload": payload, "by": TEXT, "reason": TEXT, "edited": TRUTH})
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
        """Whoever may have the task in the end gives the output."""
        others = sorted(work.handover.to - {work.agent}) if work.handover else []
        output = alternatives([self._known.output(work), *(self._known.output_of(agent) for agent in others)])
        return self._of_each(step, output)

    def _of_each(self, step: Step, output: Shape) -> Shape:
        """Of a for-each there are many, and null for those that may fail."""
        if step.for_each is None:
            return output
        may_fail = step.for_each.tolerate > 0 or step.for_each.tolerate_share > 0
        return Many(alternatives([output, NULL]) if may_fail else output)

    def _of_call(self, work: CallWork) -> Shape:
        """The outcome's data of the called workflow: its route's output, or that of the steps that
        nobody needs.
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
        """What an approval passes on: what its edits must meet where that is known, else what it
        asks.
        """
        if work.payload_schema is not None:
            return Of(work.payload_schema, work.payload_schema)
        return self.of_template(work.payload.source)


def _statuses(step: Step) -> Of:
    """How a step can come out, as `status` has it."""
    match step.work:
        case ApprovalWork():
            return one_of(*_ALWAYS, "rejected")
        case AgentWork(on_exhausted="continue") | CallWork(on_exhausted="continue"):
            return one_of(*_ALWAYS, "failed")
        case _:
            return one_of(*_ALWAYS)
