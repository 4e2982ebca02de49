"""What if: play one recorded run of a workflow through other rules, with the results that it had.

Owns the replay of one run; it must not read a log. The pure core decides (`decide`, with the new
route). The sandbox gives it what the log holds (`mesh.inspection.what_if.recording`):

- the start
- the result of each attempt and the end of each called workflow, after as long as it took
- each answer, after as long as its person took
- what an alias, a limit or an operator said to a step, after as long
- cancels, and events from outside, at the time when they came

Timers are those of the new rules, in virtual time. Nothing is sent, because nothing here derives
effects from the events.

What can't be known is not made up. A result that was never recorded (a new step, another agent, one
attempt more, a time-out longer than the agent had) does not come, and what depends on it is unknown
from there on. The same goes for an event that no step waited for, since the log does not have it. A
recorded result still counts if only its input differs; then the input is the difference that is
reported.

Decisions are compared step by step, without their times. Another time-out, backoff or deadline
counts if it changes what happens. `mesh.inspection.replay` reads runs off the log and calls this
package.

    rehearsal        one rehearsal, from the event that starts the run to the verdict
    sandbox          the new rules at work on the recording, in virtual time
    recording        what the run was given, read off its decisions
    arrivals         which events from outside come to the run, and when
    replayed_inputs  the inputs that the recording gives back
    unknowns         why nothing is known of an attempt from here on
    comparison       what was decided, and the first decision that differs
"""

from mesh.inspection.what_if.comparison import Difference, Fact
from mesh.inspection.what_if.recording import Run
from mesh.inspection.what_if.rehearsal import Rehearsal, Unknown, rehearse

__all__ = ["Difference", "Fact", "Rehearsal", "Run", "Unknown", "rehearse"]
