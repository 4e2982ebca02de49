"""Words for facts: what a rehearsal under other rules came to, and what became of the real run.

Owns one text for each fact. `mesh routes replay` calls it.
"""

from typing import Final

from mesh.inspection.what_if import Fact

_WORDS: Final = {
    "dispatched": "dispatched to {agent}",
    "called": "called route {route}",
    "asked": "asked {role}",
    "handed over": "handed over to {to}",
    "waits": "waits for {for}",
    "received": "received event {event[id]}",
    "emitted": "emitted {type}",
    "asks for its alias": "asked for alias {alias}",
    "goes without its alias": "went on without its alias",
    "round": "round {round}",
    "all items done": "all items done, {failed} failed",
    "undoing": "undone, then {status}",
    "started": "workflow {workflow}",
    "not started": "not started: {reason}",
}
"""Of facts that need more than their own word."""


def fact_words(fact: Fact | None) -> str:
    if fact is None:
        return "nothing"
    said = _WORDS.get(fact.what, "{what}").format(what=fact.what, **fact.detail)
    if fact.detail.get("attempt", 1) > 1:
        return f"{said}, attempt {fact.detail['attempt']}"
    if "by" in fact.detail:
        return f"{said} by {fact.detail['by']}"
    return f"{said} ({fact.detail['kind']})" if "kind" in fact.detail else said
