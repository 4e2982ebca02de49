"""The pure core: events, workflow state, decide, evolve, effects, ownership, replay.

No clock, ids, I/O, logging or async.
"""
