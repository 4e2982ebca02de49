"""The graph of a route's steps: their order, who needs whom, cycles.

Pure functions on names. `compiler` is the only caller.
"""

import heapq
from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]


def find_cycle(needs: Needs) -> list[str]:
    """One cycle, closed by its first step (`[a, b, a]`).

    It is the first by name; empty if there is none.
    """
    done: set[str] = set()
    for root in sorted(needs):
        trail: list[str] = []
        # without recursion: a chain of steps may be longer than Python's stack
        branches = [iter((root,))]
        while branches:
            step = next(branches[-1], None)
            if step is None:
                branches.pop()
                if trail:
                    done.add(trail.pop())
            elif step in trail:
                return [*trail[trail.index(step) :], step]
            elif step not in done:
                trail.append(step)
                # by name, so that a document gets the same message however it is written
                branches.append(iter(sorted(needs[step])))
    return []


def ordered(needs: Needs) -> tuple[str, ...]:
    """Each step after those it needs, else by name.

    The same for every spelling of a document, because routers decide in this order.
    """
    waits = {step: len(needed) for step, needed in needs.items()}
    dependents: dict[str, list[str]] = {step: [] for step in needs}
    for step, needed in needs.items():
        for name in needed:
            dependents[name].append(step)
    ready = sorted(step for step, count in waits.items() if not count)
    order: list[str] = []
    while ready:
        step = heapq.heappop(ready)
        order.append(step)
        for dependent in dependents[step]:
            waits[dependent] -= 1
            if not waits[dependent]:
                heapq.heappush(ready, dependent)
    return tuple(order)


def dependents_of(needs: Needs, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each step's dependents, in the given order."""
    found: dict[str, list[str]] = {step: [] for step in order}
    for step in order:
        for name in needs[step]:
            found[name].append(step)
    return {step: tuple(names) for step, names in found.items()}


def upstream_of(needs: Needs, order: Sequence[str]) -> dict[str, frozenset[str]]:
    """All that each step needs, directly or through others."""
    found: dict[str, frozenset[str]] = {}
    for step in order:
        found[step] = frozenset(needs[step]).union(*(found[name] for name in needs[step]))
    return found


def body_of(needs: Needs, order: Sequence[str], start: str, end: str) -> tuple[str, ...]:
    """All steps on the ways from `start` to `end`, both included, in the given order.

    Empty if there is no way.
    """
    upstream = upstream_of(needs, order)
    after = {step for step in order if step == start or start in upstream[step]}
    body = tuple(step for step in order if step in after and (step == end or step in upstream[end]))
    return body if end in after else ()
