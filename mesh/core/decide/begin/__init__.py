"""What a step does when it acts: one module for each kind of work.

The module of the same name in `settle` takes what comes of it.

    task      an attempt at a task goes out to an agent, or is held
    limit     the limits that an attempt is under, and the slots that go back
    approval  a question goes out to people
    call      a workflow of another route is called, or the call is taken back
    wait      a wait for a time or for an event begins
    for_each  a step's work begins for each item of a list
    portion   how much of that work one decision may hold
    alias     a step claims its alias; the workflow gives its aliases back
    loop      whether a loop goes round again
    undo      what was done is undone before the workflow ends
    end       when a workflow is done, and with which status
"""
