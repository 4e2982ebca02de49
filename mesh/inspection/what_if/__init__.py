"""What if: one recorded run of a workflow, played through other rules, with the results and answers
that it had.

The pure core decides (`decide`, with the new route); the sandbox gives it what the log holds
(`mesh.inspection.what_if.recording`): the start, each attempt's result after as long as it took,
the end of each workflow that it called, each answer after as long as its person took, what an
alias, a limit or an operator said to a step after as long; cancels and events from outside when
they came. Timers are those of the new rules, in virtual time. Nothing is sent, since nobody derives
effects here.

What can't be known is not made up. A result that was never recorded (a new step, another agent, one
attempt more, a time-out longer than the agent was given) stays out, and what hangs on it is unknown
from there. So is an event that no step waited for, since the log does not have it. A recorded
result is taken for good where only its input differs; that input is the difference that is told.

Compared are decisions, step by step, not their times: another time-out, backoff or deadline counts
where it changes what happens. `mesh.inspection.replay` reads runs off the log and calls it.

rehearsing   one rehearsal, from the event that starts the run to the verdict
sandbox      the new rules at work on the recording, in virtual time
arrivals     which events from outside come to the run, and when
returns      the inputs that the recording gives back
unknowns     why nothing is known of an attempt from here on
comparing    what was decided, and the first that differs
"""

from mesh.inspection.what_if.comparison import Difference, Fact
from mesh.inspection.what_if.recording import Run
from mesh.inspection.what_if.rehearsal import Rehearsal, Unknown, rehearse

__all__ = ["Difference", "Fact", "Rehearsal", "Run", "Unknown", "rehearse"]
