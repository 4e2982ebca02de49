"""Words for calls: workflows that call others, and what those use of a budget.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from mesh.core import events as ev
from mesh.core.amounts import as_amounts
from mesh.inspection.wording.phrases import as_json, step_words
from mesh.inspection.wording.said import Said


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:  # noqa: ARG001 - as the other nouns'
    match event:
        case ev.CallMade():
            return _made(event)
        case ev.CallSucceeded():
            return Said(event.step, f"{event.called} completed", "good", shows=(("output", event.output),))
        case ev.CallFailed():
            return Said(event.step, f"call {event.attempt} failed", "bad", f"{event.kind}: {event.message}")
        case ev.CallWithdrawn():
            told = f"-> call {event.step} of {event.called} is taken back: {event.reason}"
            return Said(event.step, f"call of {event.called} taken back", "quiet", event.reason, told)
        case ev.CallRefused():
            told = f"-> to {step_words(event.caller.task_id)}: refused ({event.code}), {event.message}"
            return Said("", f"call refused ({event.code})", "bad", event.message, told)
        case ev.UsageReported():
            took = "does not say what it has taken" if event.usage is None else f"has taken {as_amounts(event.usage)}"
            told = f"the call of {event.step} that was taken back {took}"
            what = f"call {event.attempt} has ended, unwaited for"
            return Said(event.step, what, "quiet", usage_words(event.usage), told)
        case _:
            return None


def _made(event: ev.CallMade) -> Said:
    limits = event.slice.limits if event.slice is not None else {}
    why = event.reason + (f"; it may spend {as_amounts(limits)}" if limits else "")
    part = f", with {as_amounts(limits)} of the budget" if limits else ""
    told = f"-> call {event.step} of {event.called}: {as_json(event.input)}{part} ({event.reason})"
    return Said(event.step, f"calls {event.called}", "work", why, told, (("input", event.input),))


def usage_words(usage: dict[str, float] | None) -> str:
    """What was used of a budget: `taken: 1200 tokens, 0.3 usd`."""
    if usage is None:
        return "taken: all that was reserved for it, since it says nothing"
    return f"taken: {as_amounts(usage)}"
