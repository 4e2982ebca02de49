"""What an input brings: one module for each kind of input.

The module of the same name in `begin` asked for it.

    start     an event starts a workflow, or repeats a start
    event     an event that a workflow's steps wait for
    task      the result of an attempt
    attempt   what a failed attempt brings, and the next one
    approval  an answer, whether it counts, and the one verdict
    call      the called workflow has ended
    alias     the alias is granted or refused
    limit     a slot is granted or refused
    budget    there is not enough budget, or more was granted
    timer     a time has come
    command   an operator's command
    parked    an input was set aside
"""
