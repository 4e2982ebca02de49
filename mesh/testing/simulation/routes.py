"""The fixed kinds of routes that simulations run.

They have each rule of the route language that a router acts on, with times of seconds.

Owns the documents alone; those on which people vote are in `voted_routes`, those that no event
starts in `called_routes`. `repertoire` chooses and compiles them, `upstream` publishes their
events.
"""

from typing import Any, Final

UNKNOWN_AGENT: Final = "ghost"
"""Its topic is not there until the faults stop."""

AGENTS: Final = ("alpha", "beta", "gamma")
CAPABILITIES: Final = {"work": ("alpha", "beta"), "rest": ("gamma",)}
"""And the agents that are registered for them."""

AWAITED: Final = ("sim.news", "sim.more")
"""Types of the events that drawn routes wait for, and emit."""

ROLES: Final = {
    "ana": frozenset({"maintainer"}),
    "ben": frozenset({"maintainer", "lead"}),
    "cem": frozenset({"maintainer", "lead"}),
    "eve": frozenset({"guest"}),
}

RETRY: Final = {"attempts": 3, "backoff": "1s", "max_backoff": "4s"}


_LIMITS: Final = {"few": {"concurrency": 2}, "rare": {"concurrency": 1, "rate": "2/5s"}}
"""Shared by routes, and by the workflows of one."""


_ROUNDS: Final[dict[str, Any]] = {
    "draft": {"agent": "alpha", "input": {"round": "${{ round }}"}, "timeout": "5s", "retry": RETRY},
    "score": {
        "needs": "draft",
        "agent": "beta",
        "input": "${{ steps.draft }}",
        "timeout": "5s",
        "retry": RETRY,
        "repeat": {"from": "draft", "until": "event.data.n % 3 == 0", "limit": 2, "on_limit": "incident"},
    },
    "after": {"needs": "score", "agent": "gamma", "input": {}, "timeout": "6s", "retry": RETRY},
}


def approval(**options: Any) -> dict[str, Any]:
    """A question about the draft to the maintainers, unless the options say otherwise."""
    return {"ask": "Go on?", "payload": {"draft": "${{ steps.draft }}"}, "role": "maintainer", **options}


_DOCUMENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "route": "fan",
        "steps": {
            "left": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": RETRY},
            "right": {"agent": "beta", "input": "${{ event.data }}", "timeout": "8s", "retry": RETRY},
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
            "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": RETRY},
            "review": {
                "needs": "draft",
                "if": "event.data.n % 5 != 4",
                "approval": approval(
                    deadline="12s", on_expiry="reject", payload_schema={"type": "object", "required": ["draft"]}
                ),
            },
            "publish": {"needs": "review", "agent": "beta", "input": "${{ steps.review.payload }}", "timeout": "6s"},
        },
    },
    {
        "route": "consent",
        "steps": {
            "draft": {"agent": "gamma", "input": "${{ event.data }}", "timeout": "5s", "retry": RETRY},
            "agree": {"needs": "draft", "approval": approval(deadline="8s", on_expiry="approve")},
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
            "draft": {"agent": "beta", "input": "${{ event.data }}", "timeout": "6s", "retry": RETRY},
            "review": {"needs": "draft", "approval": approval(deadline="6s", on_expiry="incident")},
            "cool": {"wait": "20s"},  # while it lasts, a verdict may be asked for again
        },
    },
    {
        "route": "open",
        "closed_retention": "30d",
        "steps": {
            "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": RETRY},
            "review": {"needs": "draft", "approval": approval(deadline="never", role="lead")},
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
            "found": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": RETRY},
        },
    },
    {
        "route": "audible",
        "steps": {
            "dig": {
                "agent": "alpha",
                "input": "${{ event.data }}",
                "timeout": "1500s",  # only missing signs of life can end it within the run
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
                "retry": RETRY,
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
                "retry": RETRY,
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
            "last": {"needs": "settled", "agent": "beta", "input": {}, "timeout": "5s", "retry": RETRY},
        },
    },
    {
        "route": "limited",
        "limits": _LIMITS,
        "priority": "${{ event.data.n }}",
        "steps": {
            "one": {"agent": "alpha", "input": {}, "limit": "few", "timeout": "5s", "retry": RETRY},
            "two": {
                "agent": "beta",
                "input": {},
                "limit": {"name": "rare", "key": "${{ event.data.odd }}"},
                "timeout": "6s",
                "retry": RETRY,
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
            "first": {"agent": "alpha", "input": {}, "limit": "few", "timeout": "3s", "retry": RETRY},
            "other": {"agent": "beta", "input": {}, "timeout": "6s", "retry": RETRY},
            "last": {
                "needs": {"first_of": ["first", "other"]},
                "agent": "alpha",
                "input": {},
                "limit": "few",
                "timeout": "5s",
                "retry": RETRY,
            },
        },
    },
    {
        "route": "sheaf",
        "steps": {
            "each": {
                "agent": "alpha",
                "input": {"item": "${{ item }}", "at": "${{ index }}"},
                "for_each": {"items": [1, 2, 3, 4, 5], "concurrency": 2, "tolerate": 1},
                "timeout": "5s",
                "retry": {"attempts": 2, "backoff": "1s"},
            },
            "last": {
                "needs": "each",
                "agent": "beta",
                "input": {"each": "${{ steps.each }}"},
                "timeout": "6s",
                "retry": RETRY,
            },
        },
    },
    {
        "route": "rounds",
        "steps": _ROUNDS,
    },
    {
        "route": "dialog",  # a burst of what it waits for comes at any time between two rounds
        "steps": {
            "said": {"wait": {"event": "sim.said", "timeout": "9s", "on_timeout": "skip"}},
            "reply": {"needs": "said", "agent": "alpha", "input": {}, "timeout": "5s", "retry": RETRY},
            "heard": {
                "needs": "reply",
                "wait": {"event": "sim.said", "timeout": "4s", "on_timeout": "skip"},
            },
            "answer": {
                "needs": "heard",
                "agent": "beta",
                "input": {},
                "timeout": "5s",
                "retry": RETRY,
                "repeat": {"from": "said", "until": "round == 4", "limit": 4},
            },
        },
    },
    {
        "route": "echo",  # rounds that may pass within one decision
        "steps": {
            "begin": {"agent": "beta", "input": {}, "timeout": "9s", "retry": RETRY},
            "said": {"needs": "begin", "wait": {"event": "sim.said", "timeout": "9s", "on_timeout": "skip"}},
            "heard": {
                "needs": "said",
                "wait": {"event": "sim.said", "timeout": "4s", "on_timeout": "skip"},
                "repeat": {"from": "said", "until": "round == 3", "limit": 3},
            },
            "last": {"needs": "heard", "agent": "alpha", "input": {}, "timeout": "5s", "retry": RETRY},
        },
    },
    {
        "route": "race",
        "steps": {
            "paid": {"wait": {"event": "sim.paid", "timeout": "9s", "on_timeout": "skip"}},
            "late": {"wait": "7s"},
            "agreed": {
                "approval": {
                    "ask": "Now?",
                    "payload": {"draft": 1},
                    "role": "maintainer",
                    "deadline": "8s",
                    "on_expiry": "reject",
                }
            },
            "won": {
                "needs": {"first_of": ["paid", "late", "agreed"]},
                "agent": "alpha",
                "input": {"paid": "${{ status.paid }}", "late": "${{ status.late }}"},
                "timeout": "6s",
                "retry": RETRY,
            },
        },
    },
    {
        "route": "awaits",
        "keep_events": "90s",
        "steps": {
            "first": {"wait": {"event": "sim.paid", "timeout": "12s", "on_timeout": "incident"}},
            "work": {"needs": "first", "agent": "beta", "input": {}, "timeout": "6s", "retry": RETRY},
            "second": {"needs": "work", "wait": {"event": "sim.sent", "timeout": "6s", "on_timeout": "skip"}},
            "told": {"needs": "second", "emit": {"type": "sim.told", "data": "${{ status.second }}"}},
        },
    },
    {
        "route": "undoes",
        "steps": {
            "book": {
                "agent": "alpha",
                "input": {},
                "timeout": "5s",
                "retry": {"attempts": 2, "backoff": "1s"},
                "on_exhausted": "fail",
                "undo": {"agent": "beta", "input": {"of": "${{ steps.book }}"}, "timeout": "5s", "retry": RETRY},
            },
            "pay": {
                "needs": "book",
                "agent": "gamma",
                "input": {},
                "timeout": "5s",
                "retry": {"attempts": 1},
                "on_exhausted": "fail",
                "undo": {"agent": "alpha", "input": {}, "timeout": "5s", "retry": {"attempts": 2, "backoff": "1s"}},
            },
            "ship": {
                "needs": "pay",
                "agent": "beta",
                "input": {},
                "timeout": "4s",
                "retry": {"attempts": 1},
                "on_exhausted": "fail",
            },
        },
    },
    {
        "route": "passes",
        "steps": {
            "triage": {
                "agent": "alpha",
                "input": "${{ event.data }}",
                "handover": {"to": ["beta", "gamma"], "hops": 2},
                "timeout": "6s",
                "retry": RETRY,
            },
        },
    },
    {
        "route": "thrifty",
        "budget": {"tokens": 30, "hops": 5, "on_exhausted": "ask", "role": "lead", "deadline": "20s"},
        "steps": {
            "left": {"agent": "alpha", "input": {}, "reserve": {"tokens": 20}, "timeout": "5s", "retry": RETRY},
            "right": {"agent": "beta", "input": {}, "reserve": {"tokens": 20}, "timeout": "5s", "retry": RETRY},
            "last": {
                "needs": ["left", "right"],
                "agent": "gamma",
                "input": {},
                "reserve": {"tokens": 10},
                "timeout": "5s",
                "retry": RETRY,
            },
        },
    },
    {
        "route": "perilous",  # long enough for a task to end three processes, one after the other
        "steps": {
            "dive": {"agent": "alpha", "input": {}, "timeout": "300s", "retry": {"attempts": 1}},
            "wait": {"agent": "gamma", "input": {}, "timeout": "300s", "retry": {"attempts": 2, "backoff": "1s"}},
        },
    },
    {
        "route": "brief",
        "closed_retention": "5s",
        "on_repeat": "new_run_after_end",
        "steps": {"only": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "6s", "retry": RETRY}},
    },
)

FIXED: Final = {str(document["route"]): document for document in _DOCUMENTS}
"""By name; an event of type `sim.<name>` starts one."""

CHANGED: Final[dict[str, dict[str, Any]]] = {
    # another key, so that one event starts workflows of two ids if two routers match it differently
    "fan": {"key": "${{ event.subject + '.again' }}"},
    "flaky": {"key": "${{ event.subject + '.again' }}"},
    # another trigger
    "brittle": {"on": {"type": "sim.brittle", "if": "event.data.odd"}},
    # other steps
    "open": {
        "steps": {
            "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "8s", "retry": RETRY},
            "review": {"needs": "draft", "approval": approval(deadline="never", role="lead")},
            "publish": {"needs": "review", "agent": "beta", "input": "${{ steps.review.payload }}", "timeout": "6s"},
        }
    },
    "review": {
        "steps": {
            "draft": {"agent": "alpha", "input": {"n": "${{ event.data.n }}"}, "timeout": "6s", "retry": RETRY},
            "check": {"needs": "draft", "agent": "gamma", "input": {}, "timeout": "6s", "retry": RETRY},
            "review": {"needs": ["draft", "check"], "approval": approval(deadline="15s", on_expiry="approve")},
        }
    },
    # a loop's condition that is corrected
    "rounds": {
        "steps": {
            **_ROUNDS,
            "score": {**_ROUNDS["score"], "repeat": {**_ROUNDS["score"]["repeat"], "until": "round > 0"}},
        }
    },
    # another agent: a step that has begun can't migrate to this version
    "consent": {
        "steps": {
            "draft": {"agent": "beta", "input": "${{ event.data }}", "timeout": "5s", "retry": RETRY},
            "agree": {"needs": "draft", "approval": approval(deadline="8s", on_expiry="approve")},
        }
    },
}
"""What another version of a route has otherwise."""
