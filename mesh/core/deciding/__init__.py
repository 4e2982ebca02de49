"""The rules that `mesh.core.decide` is made of, one concern a module. `decide` is their only caller; all are pure.

draft       a decision in the making: its events, and the state after them
starting    an event for a workflow's id
progress    which steps can act now, and what they do
attempts    a task's attempts: dispatch, failure, the next one
results     what became of an attempt
asking      questions to people, and whether an answer counts
closing     the one verdict of an approval
timers      times that have come
commands    what operators order, and effects that could not be sent
ending      when a workflow is done, and how
"""
