"""What an event of the log is called, said once.

A timeline's line and a transcript's sentence are next to each other, event by event.

Owns the wording, in a module for each noun:

    tasks       what agents are given, and what they say
    people      questions and answers, commands, incidents
    personal    what people say of themselves: delegations and absences
    steps       what the rules decide of a step; items, rounds, waits, events
    calls       workflows that call others, and what they may spend
    built_in    schedules, aliases and clocks
    limits      slots
    workflows   a run's start and end, budgets, and what became of an input
    facts       what a rehearsal under other rules came to
    phrases     what all of them say alike: durations, times, ids, CloudEvents

It must not know how any of it is shown. The timeline (`mesh.cli.text`), the demo, the replay of
routes (`mesh routes replay`) and transcripts (`mesh.testing.transcript`) take their words from
here; a new event gets its two texts in one place.
"""

from typing import Final

from mesh.core import events as ev
from mesh.inspection.wording import built_in, calls, limits, people, personal, steps, tasks, workflows
from mesh.inspection.wording.said import Said, Tone

__all__ = ["Said", "Tone", "words_of"]

_NOUNS: Final = (
    tasks.words_of,
    people.words_of,
    personal.words_of,
    calls.words_of,
    steps.words_of,
    built_in.words_of,
    limits.words_of,
    workflows.words_of,
)


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:
    """The words of an event; None if a newer version wrote it and this one does not know it."""
    for words in _NOUNS:
        said = words(event, decision)
        if said is not None:
            return said
    return None
