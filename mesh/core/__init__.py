"""The pure core: events, routes, workflow state, decide, evolve, effects, ownership, replay.

No clock, ids, I/O, logging or async.
"""
