"""The fixed routes of simulations on which several people vote.

Owns the documents alone; `repertoire` compiles it, `upstream` publishes its events.
"""

from typing import Any, Final

from mesh.testing.simulation.routes import RETRY, approval

_VOTE: Final[dict[str, Any]] = {
    "route": "vote",
    "requester": "${{ event.data.n % 4 == 0 ? 'ana' : 'dan' }}",
    "steps": {
        "draft": {
            "agent": "alpha",
            "input": "${{ event.data }}",
            "timeout": "5s",
            "retry": RETRY,
            "approve": {"role": "maintainer", "deadline": "6s", "limit": 3},
        },
        "pair": {
            "needs": "draft",
            "approval": approval(
                quorum=2,
                choices=["go", "wait", "stop"],
                rejects=["stop"],
                edit={"role": "maintainer", "limit": 2},
                deadline="15s",
                on_expiry="wait",
                escalate=[{"after": "5s", "to": "lead"}, {"after": "5s", "to": "maintainer", "quorum": 1}],
                extend={"by": "3s", "times": 2},
                ask_back={"to": [{"role": "lead"}, {"agent": "alpha"}], "limit": 4, "extends": "1s"},
            ),
        },
        "other": {
            "needs": "pair",
            "approval": approval(
                role="lead",
                reject="any",
                reason="reject",
                claim="exclusive",
                lease="3s",
                deadline="15s",
                **{"not": ["requester", {"voters_of": "pair"}]},
            ),
        },
        "all": {
            "needs": "draft",
            "for_each": {"items": [1, 2], "tolerate": 1},
            "approval": approval(
                ask="Item ${{ item }}?", role="maintainer", deadline="15s", ask_back={"to": {"agent": "alpha"}}
            ),
        },
        "each": {
            "needs": "draft",
            "approval": {
                "ask": "Both of you?",
                "payload": {"draft": "${{ steps.draft }}"},
                "quorum": [{"role": "maintainer"}, {"role": "lead"}],
                "not": "requester",
                "reject": "majority",
                "deadline": "15s",
                "on_expiry": "approve",
            },
        },
    },
}

_HOURS: Final[dict[str, Any]] = {"calendar": "office"}
_OFFICE: Final[dict[str, Any]] = {
    "route": "office",
    "requester": "${{ event.data.n % 4 == 0 ? 'ana' : 'dan' }}",
    "steps": {
        "draft": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "5s", "retry": RETRY},
        # one answer of anybody, as the mesh asks for it
        "plain": {"needs": "draft", "approval": approval(deadline="12s")},
        "pair": {
            "needs": "draft",
            "approval": approval(
                quorum=2,
                signed="gateway",
                deadline={"working": "40s", **_HOURS},
                on_expiry="approve",
                escalate=[{"after": {"working": "20s", **_HOURS}, "to": "lead"}],
                extend={"by": "3s", "times": 2},
                **{"not": "requester"},
            ),
        },
        "own": {
            "needs": "draft",
            "approval": {
                "ask": "Both of you, with your own keys?",
                "payload": {"draft": "${{ steps.draft }}"},
                "quorum": [{"role": "maintainer"}, {"role": "lead"}],
                "signed": "own",
                "reject": "majority",
                "deadline": {"working_days": 1, **_HOURS},
                "on_expiry": "approve",
            },
        },
        "last": {
            "needs": "pair",
            "approval": approval(role="lead", deadline="15s", **{"not": ["editors", {"voters_of": "pair"}]}),
        },
    },
}

VOTED: Final = {"vote": _VOTE, "office": _OFFICE}
"""Approvals of several people, for runs of their own; an event of type `sim.vote` starts one.

Those of `office` ask for signatures and go by working hours.
"""
