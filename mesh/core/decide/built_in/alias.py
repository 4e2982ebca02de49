"""An alias: which workflow has it, and the events that come by it.

A built-in workflow, in the partition of its own id.

    (nothing) --event--> expected: events are kept, and go to the dead letters when their time is up
    (nothing), expected --claim--> standing: a workflow has it, and gets the kept and all new events
    standing --its workflow has ended, or an operator cancels it--> (nothing)
"""

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.decide.kept_events import is_kept, keep
from mesh.core.events import (
    AliasBound,
    AliasRefused,
    CommandAccepted,
    CommandRefused,
    EffectUndeliverable,
    EventRedirected,
    EventUnclaimed,
    InputDismissed,
    WorkflowForgotten,
)
from mesh.core.inputs import AliasClaimed, AliasReleased, CommandGiven, EventOffered, Input, TimerDue, Undeliverable
from mesh.core.state import KeptEvent


def decide_alias(draft: Draft, given: Input) -> None:
    match given:
        case EventOffered():
            _on_offered(draft, given)
        case AliasClaimed():
            _on_claimed(draft, given)
        case AliasReleased():
            _on_released(draft, given)
        case TimerDue():
            _on_timer(draft, given)
        case CommandGiven():
            _on_command(draft, given)
        case Undeliverable(effect_id=effect, topic=topic, code=code, message=message):
            draft.add(EffectUndeliverable(effect_id=effect, topic=topic, code=code, message=message))
        case _:
            draft.add(InputDismissed(code="unknown", message=f"an alias takes no {type(given).__name__}"))


def _on_offered(draft: Draft, given: EventOffered) -> None:
    alias, event = draft.workflow, given.cloud_event
    kept = KeptEvent(
        cloud_event=event,
        topic=given.source_topic,
        partition=given.source_partition,
        offset=given.source_offset,
        at_ms=given.source_at_ms,
        alias=ids.parse_alias_id(given.workflow_id).name,
    )
    if alias is not None and alias.holder is not None:
        draft.add(EventRedirected(kept=kept, to=alias.holder.workflow_id))
    elif alias is not None and is_kept(alias, kept):
        draft.add(InputDismissed(code="repeated", message=f"event {event['id']} of {event['source']} has been here"))
    elif given.only_live:
        message = "only an earlier version of the route waits for it, and no workflow has this alias"
        draft.add(InputDismissed(code="unclaimed", message=message))
    else:
        keep(draft, kept, given.route, given.digest, given.key)


def _on_claimed(draft: Draft, given: AliasClaimed) -> None:
    alias, claimant = draft.workflow, given.claimant
    holder = alias.holder if alias is not None else None
    # the same workflow may ask again, by a retry or in another round, and hears the same answer
    if holder is not None and holder.workflow_id != claimant.workflow_id:
        has = f"{given.workflow_id} is the alias of {holder.workflow_id}, which lives"
        message = f"{has}: end that workflow, then retry; or skip, and go on without the alias"
        draft.add(AliasRefused(claimant=claimant, message=message))
        return
    draft.add(AliasBound(claimant=claimant))
    for kept in draft.live.kept:
        draft.add(EventRedirected(kept=kept, to=claimant.workflow_id))


def _on_released(draft: Draft, given: AliasReleased) -> None:
    holder = draft.workflow.holder if draft.workflow is not None else None
    parsed = ids.parse_step_id(holder.task_id) if holder is not None else None
    # a release of an earlier run must not take the alias from the present one
    if parsed is None or (parsed.workflow_id, parsed.run_id) != (given.claimant, given.run_id):
        message = f"it is not the alias of {given.claimant}, run {given.run_id}"
        draft.add(InputDismissed(code="unknown", message=message))
        return
    draft.add(WorkflowForgotten())


def _on_timer(draft: Draft, given: TimerDue) -> None:
    alias = draft.workflow
    if alias is None or alias.forget_at_ms is None or alias.forget_at_ms > given.due_at_ms:
        return
    for kept in alias.kept:
        draft.add(EventUnclaimed(kept=kept, reason="no workflow took the alias in time"))
    draft.add(WorkflowForgotten())


def _on_command(draft: Draft, given: CommandGiven) -> None:
    """Free the alias, if an operator cancels it."""
    alias = draft.workflow
    if given.command != "cancel" or alias is None or alias.holder is None:
        message = "an alias that a workflow has can be cancelled, and nothing else: then it is nobody's"
        draft.add(
            CommandRefused(
                command_id=given.command_id, command=given.command, code="built_in", message=message, by=given.by
            )
        )
        return
    draft.add(CommandAccepted(command_id=given.command_id, command="cancel", by=given.by, reason=given.reason))
    draft.add(WorkflowForgotten())
