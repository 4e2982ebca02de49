"""The rules that `mesh.core.decide` is made of, one concern a module. `decide` is their only caller; all are pure.

draft         a decision in the making: its events, and the state after them
starting      an event for a workflow's id
correlating   an event that a workflow's steps wait for
progress      which steps can act now, and what they do
dispatching   an attempt at a task goes out, or is held
limiting      the limits that it is under, and slots that go back
queueing      a task that waits for a slot, and what becomes of it
limiter       a limiter's own decisions: who gets a slot
budgeting     what happens where the budget has not enough
fanning       a step's work for each item of a list
looping       whether a loop goes round again
waiting       for a time, or for an event
calling       workflows of other routes that are steps: the call, and its taking back
returning     what becomes of a call
asking        questions to people, and whether an answer counts
closing       the one verdict of an approval
results       what became of an attempt
attempts      what a failed attempt brings, and the next one
parking       what else follows where an input is set aside
timers        times that have come
commands      what operators order, and effects that could not be sent
ending        when a workflow is done, and how
compensating  what it did is undone before it ends
aliasing      a step asks for its alias
granting      what becomes of that
forwarding    aliases: whose each is, and the events that come by it
scheduling    when a route starts by itself
"""
