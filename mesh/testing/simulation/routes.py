"""The routes that simulations run: each rule of the route language that a router acts on, with times of seconds.

Owns the documents alone; `world` publishes their events, `parties` plays their agents and people.
"""

from typing import Any, Final

from mesh.core.route import Route
from mesh.core.route_compile import compile_route

__all__ = ["AGENTS", "CALLED", "KINDS", "ROLES", "UNKNOWN_AGENT", "routes", "versions"]

UNKNOWN_AGENT: Final = "ghost"
"""Its topic is not there until the faults stop."""

AGENTS: Final = ("alpha", "beta", "gamma")
ROLES: Final = {"ana": frozenset({"maintainer"}), "ben": frozenset({"maintainer", "lead"}), "eve": frozenset({"guest"})}

_RETRY: Final = {"attempts": 3, "backoff": "1s", "max_backoff": "4s"}


_LIMITS: Final = {"few": {"concurrency": 2}, "rare": {"concurrency": 1, "rate": "2/5s"}}
"""Shared by routes, and by the workflows of one."""


def _approval(**options: Any) -> dict[str, Any]:
    return {"ask": "Go on?", "payload": {"draft": "${{ steps.draft }}"}, "role": "maintainer", **options}


_DOCUMENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "route": "fan",
        "steps": {
            "left": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": _RETRY},
            "right": {"agent": "beta", "input": "${{ event.data }}", "timeout": "8s", "retry": _RETRY},
            "odd": {
                "needs": "left",
                "if": "event.data.odd",
                "agent": "gamma",
                "input": {"n": "${{ event.data.n }}"},
                "timeout": "6s",
            },
            "last": {
                "needs": ["right", "odd"],
                "agent": "alpha",
                "input": {"right": "${{ steps.right }}"},
                "timeout": "6s",
            },
        },
    },
    {
        "route": "review",
        "steps": {
            "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": _RETRY},
            "review": {
                "needs": "draft",
                "if": "event.data.n % 5 != 4",
                "approval": _approval(
                    deadline="12s", on_expiry="reject", payload_schema={"type": "object", "required": ["draft"]}
                ),
            },
            "publish": {"needs": "review", "agent": "beta", "input": "${{ steps.review.payload }}", "timeout": "6s"},
        },
    },
    {
        "route": "consent",
        "steps": {
            "draft": {"agent": "gamma", "input": "${{ event.data }}", "timeout": "5s", "retry": _RETRY},
            "agree": {"needs": "draft", "approval": _approval(deadline="8s", on_expiry="approve")},
            "good": {
                "needs": "agree",
                "if": "steps.agree.verdict == 'approved'",
                "agent": "alpha",
                "input": {},
                "timeout": "6s",
            },
            "bad": {
                "needs": "agree",
                "if": "steps.agree.verdict == 'rejected'",
                "agent": "beta",
                "input": {},
                "timeout": "6s",
            },
        },
    },
    {
        "route": "escalate",
        "steps": {
            "draft": {"agent": "beta", "input": "${{ event.data }}", "timeout": "6s", "retry": _RETRY},
            "review": {"needs": "draft", "approval": _approval(deadline="6s", on_expiry="incident")},
        },
    },
    {
        "route": "open",
        "closed_retention": "30d",
        "steps": {
            "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": _RETRY},
            "review": {"needs": "draft", "approval": _approval(deadline="never", role="lead")},
        },
    },
    {
        "route": "flaky",
        "steps": {
            "only": {
                "agent": "gamma",
                "input": "${{ event.data }}",
                "timeout": "4s",
                "retry": {"attempts": 2, "backoff": "1s"},
            }
        },
    },
    {
        "route": "brittle",
        "steps": {
            "first": {
                "agent": "beta",
                "input": "${{ event.data }}",
                "timeout": "4s",
                "retry": {"attempts": 1},
                "on_exhausted": "fail",
            },
            "second": {
                "agent": "alpha",
                "input": "${{ event.data }}",
                "timeout": "4s",
                "retry": {"attempts": 1},
                "on_exhausted": "fail",
            },
        },
    },
    {
        "route": "astray",
        "steps": {
            "lost": {"agent": UNKNOWN_AGENT, "input": "${{ event.data }}", "timeout": "300s"},
            "found": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": _RETRY},
        },
    },
    {
        "route": "audible",
        "steps": {
            "dig": {
                "agent": "alpha",
                "input": "${{ event.data }}",
                "timeout": "1500s",  # none but the signs of life end it in time
                "start_timeout": "5s",
                "run_timeout": "12s",
                "heartbeat": "3s",
                "retry": {"attempts": 4, "backoff": "1s", "max_backoff": "4s"},
            },
            "haul": {
                "needs": "dig",
                "agent": "beta",
                "input": {},
                "timeout": "30s",
                "run_timeout": "9s",
                "heartbeat": "2s",
                "retry": _RETRY,
            },
        },
    },
    {
        "route": "calls",
        "steps": {
            "first": {"workflow": "called", "input": {"n": "${{ event.data.n }}", "of": "first"}},
            "second": {"workflow": "called", "input": {"n": "${{ event.data.n }}", "of": "second"}, "timeout": "9s"},
            "last": {
                "needs": ["first", "second"],
                "workflow": "called-with-an-approval",
                "input": {"first": "${{ steps.first }}", "second": "${{ steps.second }}"},
                "timeout": "60s",
            },
        },
        "output": {"last": "${{ steps.last }}"},
    },
    {
        "route": "calls-brittle",
        "steps": {
            "left": {"workflow": "brittle", "input": "${{ event.data }}", "on_exhausted": "fail"},
            "right": {"workflow": "called", "input": "${{ event.data }}", "on_exhausted": "fail"},
        },
    },
    {
        "route": "paid",
        "keep_events": "20s",
        "steps": {
            "charge": {
                "agent": "alpha",
                "input": "${{ event.data }}",
                "timeout": "5s",
                "retry": _RETRY,
                "alias": "p${{ event.data.n % 2 }}",
            },
            "settled": {
                "needs": "charge",
                "wait": {
                    "event": "sim.settled",
                    "alias": "charge",
                    "key": "p${{ event.data.n % 2 }}",
                    "timeout": "10s",
                    "on_timeout": "skip",
                },
            },
            "last": {"needs": "settled", "agent": "beta", "input": {}, "timeout": "5s", "retry": _RETRY},
        },
    },
    {
        "route": "limited",
        "limits": _LIMITS,
        "priority": "${{ event.data.n }}",
        "steps": {
            "one": {"agent": "alpha", "input": {}, "limit": "few", "timeout": "5s", "retry": _RETRY},
            "two": {
                "agent": "beta",
                "input": {},
                "limit": {"name": "rare", "key": "${{ event.data.odd }}"},
                "timeout": "6s",
                "retry": _RETRY,
                "on_exhausted": "fail",
            },
            "each": {
                "needs": "one",
                "for_each": {"items": [1, 2, 3], "tolerate": "all"},
                "agent": "gamma",
                "input": "${{ item }}",
                "limit": "few",
                "timeout": "4s",
                "retry": {"attempts": 1},
            },
        },
    },
    {
        "route": "limited-too",
        "limits": _LIMITS,
        "steps": {
            "first": {"agent": "alpha", "input": {}, "limit": "few", "timeout": "3s", "retry": _RETRY},
            "other": {"agent": "beta", "input": {}, "timeout": "6s", "retry": _RETRY},
            "last": {
                "needs": {"first_of": ["first", "other"]},
                "agent": "alpha",
                "input": {},
                "limit": "few",
                "timeout": "5s",
                "retry": _RETRY,
            },
        },
    },
    {
        "route": "brief",
        "closed_retention": "5s",
        "on_repeat": "new_run_after_end",
        "steps": {"only": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": _RETRY}},
    },
)

_CALLED: Final[tuple[dict[str, Any], ...]] = (
    {
        "route": "called",
        "steps": {
            "work": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "5s", "retry": _RETRY},
            "more": {"needs": "work", "agent": "beta", "input": "${{ steps.work }}", "timeout": "5s", "retry": _RETRY},
        },
        "output": {"of": "${{ event.data }}", "more": "${{ steps.more }}"},
    },
    {
        "route": "called-with-an-approval",
        "steps": {
            "draft": {"agent": "gamma", "input": "${{ event.data }}", "timeout": "5s", "retry": _RETRY},
            "review": {"needs": "draft", "approval": _approval(deadline="10s", on_expiry="approve")},
            "again": {"needs": "review", "workflow": "called", "input": "${{ steps.review.payload }}"},
        },
    },
)
"""No event starts these: steps of others call them."""

_SCHEDULED: Final[dict[str, Any]] = {
    "route": "hourly",  # for runs of a minute
    "on": {"schedule": "* * * * *"},
    "steps": {"only": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "5s", "retry": _RETRY}},
}

KINDS: Final = tuple(str(document["route"]) for document in _DOCUMENTS)
"""Route names; an event of type `sim.<name>` starts one."""

CALLED: Final = frozenset({"brittle", *(str(document["route"]) for document in _CALLED)})
"""Routes that steps call: were one withdrawn, their callers could not end."""


_CHANGED: Final[dict[str, dict[str, Any]]] = {
    # another key, so that one event starts workflows of two ids if two routers match it differently
    "fan": {"key": "${{ event.subject + '.again' }}"},
    "flaky": {"key": "${{ event.subject + '.again' }}"},
    # another trigger
    "brittle": {"on": {"type": "sim.brittle", "if": "event.data.odd"}},
    # other steps
    "open": {
        "steps": {
            "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "8s", "retry": _RETRY},
            "review": {"needs": "draft", "approval": _approval(deadline="never", role="lead")},
            "publish": {"needs": "review", "agent": "beta", "input": "${{ steps.review.payload }}", "timeout": "6s"},
        }
    },
    "review": {
        "steps": {
            "draft": {"agent": "alpha", "input": {"n": "${{ event.data.n }}"}, "timeout": "6s", "retry": _RETRY},
            "check": {"needs": "draft", "agent": "gamma", "input": {}, "timeout": "6s", "retry": _RETRY},
            "review": {"needs": ["draft", "check"], "approval": _approval(deadline="15s", on_expiry="approve")},
        }
    },
    # another agent: what has begun can't go over to it
    "consent": {
        "steps": {
            "draft": {"agent": "beta", "input": "${{ event.data }}", "timeout": "5s", "retry": _RETRY},
            "agree": {"needs": "draft", "approval": _approval(deadline="8s", on_expiry="approve")},
        }
    },
}


def routes() -> list[Route]:
    """The version of each that routers begin with."""
    return [_compiled(document) for document in _DOCUMENTS] + [
        compile_route(document) for document in (*_CALLED, _SCHEDULED)
    ]


def versions() -> list[Route]:
    """Every version of every route."""
    changed = [_compiled({**d, **_CHANGED[d["route"]]}) for d in _DOCUMENTS if d["route"] in _CHANGED]
    return [*routes(), *changed]


def _compiled(document: dict[str, Any]) -> Route:
    return compile_route({"on": {"type": f"sim.{document['route']}"}, "key": "${{ event.subject }}", **document})
