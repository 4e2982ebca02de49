"""Scenarios of approvals by several people: quorums, four eyes, edits, choices."""

from typing import Any

import pytest
from scenario_table import begin, scenario

from mesh import Context
from mesh.testing import MeshKit, Refused
from mesh.testing.kit.scripts import Answer, fails

PAY = {"ask": "Pay?", "payload": "${{ event.data }}"}


def paid(mesh: MeshKit, **more: Any) -> dict[str, Any]:
    """A question, and the payment that follows it. Three managers and a clerk may answer."""
    for name in ("ana", "ben", "cy"):
        mesh.person(name, roles="manager")
    mesh.person("dan", roles="clerk")
    mesh.agent("payer", lambda value: {"paid": value["amount"]})
    return {
        "review": {"approval": {**PAY, **more}},
        "pay": {"needs": "review", "agent": "payer", "input": "${{ steps.review.payload }}"},
    }


@scenario
def a_quorum_of_two(mesh: MeshKit) -> None:
    """Two different managers must agree. One person counts once, and may take the vote back."""
    steps = paid(mesh, role="manager", quorum=2)
    output = {
        "by": "${{ steps.review.votes.map(vote, vote.by) }}",
        "choice": "${{ steps.review.choice }}",
        "edited": "${{ steps.review.edited }}",
    }
    run = begin(mesh, steps, data={"amount": 10}, output=output)
    run.approve("review", by="ana")
    run.approve("review", by="ana", reason="again")
    run.withdraw("review", by="ana")
    run.approve("review", by="ben")
    with pytest.raises(Refused, match="role"):
        run.approve("review", by="dan")
    run.comment("review", "Is this the right amount?", by="cy")
    run.approve("review", by="cy", reason="it is")
    assert run.outcome.data == {"by": ["ben", "cy"], "choice": "approve", "edited": False}
    with pytest.raises(Refused, match="closed"):
        run.approve("review", by="ana")


@scenario
def four_eyes(mesh: MeshKit) -> None:
    """Neither the requester nor who edits the payload can approve. An edit resets all votes."""
    steps = paid(mesh, role="manager", **{"not": ["requester", "editors"], "edit": {"role": "clerk", "limit": 1}})
    run = begin(mesh, steps, data={"amount": 10, "by": "ben"}, requester="${{ event.data.by }}")
    with pytest.raises(Refused, match="requester"):
        run.approve("review", by="ben")
    with pytest.raises(Refused, match="role"):
        run.edit("review", {"amount": 9, "by": "ben"}, by="ana")
    run.edit("review", {"amount": 11, "by": "ben"}, by="dan")
    with pytest.raises(Refused, match="once"):
        run.edit("review", {"amount": 12, "by": "ben"}, by="dan")
    run.approve("review", by="cy")
    assert run.outcome.data == {"pay": {"paid": 11}}


@scenario
def seats_of_two_groups(mesh: MeshKit) -> None:
    """Ana could take either seat. She votes first, and Ben can still take his."""
    mesh.person("eve", roles=["finance", "legal"])
    mesh.person("fay", roles="finance")
    steps = paid(mesh, quorum=[{"role": "finance"}, {"role": "${{ event.data.of }}"}])
    run = begin(mesh, steps, data={"amount": 10, "of": "legal"})
    run.approve("review", by="eve")
    run.approve("review", by="fay")
    assert run.outcome.status == "completed"


@scenario
def an_edit_resets_the_votes(mesh: MeshKit) -> None:
    """Votes are for what was seen. An edit resets them, and may be a vote too."""
    steps = paid(mesh, role="manager", quorum=2)
    run = begin(mesh, steps, data={"amount": 10})
    run.approve("review", by="ana")
    run.approve("review", by="ben", payload={"amount": 20})
    with pytest.raises(Refused, match="changes nothing"):
        run.edit("review", {"amount": 20}, by="ben")
    run.approve("review", by="ana")
    assert run.outcome.data == {"pay": {"paid": 20}}


@scenario
def one_of_several_choices(mesh: MeshKit) -> None:
    """Choices instead of approve and reject. Votes that are split close nothing."""
    steps = paid(
        mesh,
        role="manager",
        quorum=2,
        choices=["refund", "voucher", "reject"],
        reject="majority",
        reason="reject",
    )
    split = {
        **PAY,
        "role": "manager",
        "quorum": 2,
        "choices": ["cash", "card"],
        "deadline": "500ms",
        "on_expiry": "card",
    }
    steps["how"] = {"needs": "review", "approval": split}
    steps["pay"]["needs"] = "how"
    output = {"what": "${{ steps.review.choice }}", "how": "${{ steps.how.choice }}"}
    run = begin(mesh, steps, data={"amount": 10}, output=output)
    with pytest.raises(Refused, match="say which"):
        run.approve("review", by="cy")
    with pytest.raises(Refused, match="reason"):
        run.reject("review", by="cy")
    run.reject("review", by="cy", reason="too much")
    run.choose("review", "refund", by="ana")
    run.choose("review", "voucher", by="ben")
    run.choose("review", "voucher", by="ana")
    mesh.advance("500ms")
    assert run.outcome.data == {"what": "voucher", "how": "card"}


@scenario
def nobody_could_answer(mesh: MeshKit) -> None:
    """Three managers are wanted, and one of them is the requester. An operator skips it."""
    steps = paid(mesh, role="manager", quorum=3, requester="${{ event.data.by }}", **{"not": "requester"})
    steps["pay"]["input"] = {"amount": 0}
    run = begin(mesh, steps, data={"amount": 10, "by": "Ana"})
    assert run.needs_operator("review") == "3 of manager must answer, and 2 could, without ana"
    run.skip("review", by="op")
    assert run.outcome.status == "completed"


@scenario
def one_person_under_two_names(mesh: MeshKit) -> None:
    """Ana votes from a chat and by mail: she is one person, and takes one seat.

    She loses the role before all have voted. Her vote stays counted, and she can't vote again.
    """
    steps = paid(mesh, role="manager", quorum=2)
    mesh.person("ana", roles="manager", names="slack:U1")
    run = begin(mesh, steps, data={"amount": 10}, output={"by": "${{ steps.review.votes.map(vote, vote.by) }}"})
    run.approve("review", by="slack:U1")
    run.approve("review", by="ana")
    mesh.person("ana", names="slack:U1")
    with pytest.raises(Refused, match="role"):
        run.approve("review", by="slack:U1", reason="again")
    run.approve("review", by="ben")
    assert run.outcome.data == {"by": ["ana", "ben"]}


@scenario
def escalated_in_stages(mesh: MeshKit) -> None:
    """Three managers are wanted. After a time one director suffices."""
    mesh.person("eve", roles="director")
    stage = {"after": "200ms", "to": "director", "quorum": 1}
    steps = paid(mesh, role="manager", quorum=3, deadline="1h", escalate=[stage])
    run = begin(mesh, steps, data={"amount": 10}, output={"by": "${{ steps.review.votes.map(vote, vote.by) }}"})
    mesh.advance("200ms")
    run.approve("review", by="eve")
    assert run.outcome.data == {"by": ["eve"]}


@scenario
def asked_back(mesh: MeshKit) -> None:
    """A manager asks the requester, and an agent that proposes something else, before she votes.

    Another question to the agent fails, which is no incident. One is open when it closes.
    """
    proposes = {"text": "it was half of that", "proposal": {"amount": 5, "by": "dan"}}
    mesh.agent("researcher", [proposes, fails("offline", "there is no network", retryable=False)])
    ask = {"to": ["requester", {"agent": "researcher"}], "limit": 4, "extends": "1h"}
    steps = paid(mesh, role="manager", quorum=2, deadline="1h", ask_back=ask, **{"not": "requester"})
    run = begin(mesh, steps, data={"amount": 10, "by": "dan"}, requester="${{ event.data.by }}")
    run.approve("review", by="ben")
    run.ask_back("review", "what is it for?", by="ana", to="requester")
    with pytest.raises(Refused, match="role"):
        run.inform("review", "I know", by="ben")
    run.inform("review", "travel", by="dan")
    run.ask_back("review", "is it too much?", by="ana", to="researcher")
    run.ask_back("review", "what is the weather?", by="ana", to="researcher")
    run.ask_back("review", "when was it?", by="ana", to="requester")
    with pytest.raises(Refused, match="limit"):
        run.ask_back("review", "and where?", by="ana", to="requester")
    run.approve("review", by="ana")
    assert run.outcome.data == {"pay": {"paid": 10}}


@scenario
def each_item_approved(mesh: MeshKit) -> None:
    """Each expense is approved by itself, two at once. One may be rejected; the list says which."""
    steps = paid(mesh)
    question = {"ask": "Pay ${{ item.amount }}?", "payload": "${{ item }}", "role": "manager"}
    steps["review"] = {
        "for_each": {"items": "${{ event.data.items }}", "concurrency": 2, "tolerate": 1},
        "approval": question,
    }
    steps["pay"]["input"] = {"amount": "${{ steps.review.filter(one, one.verdict == 'approved').size() }}"}
    run = begin(mesh, steps, data={"items": [{"amount": 10}, {"amount": 20}, {"amount": 30}]})
    run.approve("review[1]", by="ana")
    run.reject("review[2]", by="ben", reason="no receipt")
    run.edit("review[0]", {"amount": 9}, by="ana")
    run.approve("review[0]", by="ben")
    assert run.outcome.data == {"pay": {"paid": 2}}


@scenario
def handed_over_by_an_operator(mesh: MeshKit) -> None:
    """The deadline is moved, the approval reassigned, and a vote voided. No order lifts `not`."""
    mesh.person("eve", roles="auditor")
    mesh.person("fay", roles="auditor")
    steps = paid(
        mesh, role="manager", quorum=2, deadline="1h", extend={"by": "1h", "times": 1}, **{"not": {"people": "fay"}}
    )
    run = begin(mesh, steps, data={"amount": 10}, output={"by": "${{ steps.review.votes.map(vote, vote.by) }}"})
    run.answer("review", Answer(decision="claim"), by="ben")
    run.answer("review", Answer(decision="release"), by="ben")
    run.extend("review", "2h", by="op", reason="ana is away")
    run.answer("review", Answer(decision="extend"), by="ben")
    with pytest.raises(Refused, match="limit"):
        run.answer("review", Answer(decision="extend"), by="ana")
    run.approve("review", by="ana")
    run.void("review", "ana", by="op", reason="her account was stolen")
    with pytest.raises(Refused, match="no_vote"):
        run.void("review", "cy", by="op")
    run.approve("review", by="ben")
    with pytest.raises(Refused, match="excluded"):
        run.reassign("review", people=("fay",), by="op")
    run.reassign("review", roles=("auditor",), replace=True, by="op")
    with pytest.raises(Refused, match="role"):
        run.approve("review", by="cy")
    with pytest.raises(Refused, match="excluded"):
        run.approve("review", by="fay")
    run.approve("review", by="eve")
    assert run.outcome.data == {"by": ["ben", "eve"]}


@scenario
def working_hours(mesh: MeshKit) -> None:
    """Nobody has applied the calendar yet: an operator does, and it is asked again.

    Then a stage leaves too few people, which is seen when the stage comes.
    """
    after = {"working": "1s", "calendar": "office"}
    steps = paid(
        mesh,
        role="manager",
        quorum=2,
        deadline={"working": "2h", "calendar": "office"},
        escalate=[{"after": after, "to": "clerk", "replace": True}],
    )
    run = begin(mesh, steps, data={"amount": 10})
    assert "no calendar office is in effect" in run.needs_operator("review")
    mesh.calendar("calendar: office\ntimezone: UTC\nhours: {mon-sun: 00:00-24:00}\n")
    run.retry("review")
    run.waits_for("review")
    mesh.advance("2s")
    assert "2 of manager must answer, and 1 could" in run.needs_operator("review")
    mesh.person("eve", roles="clerk")
    run.retry("review", reason="there are two clerks now")
    mesh.advance("2s")
    run.approve("review", by="dan")
    run.approve("review", by="eve")


@scenario
def approved_by_a_delegate(mesh: MeshKit) -> None:
    """Somebody answers for a manager who is away. Nobody takes part twice, nor evades four eyes."""
    mesh.person("eve")
    steps = paid(mesh, role="manager", quorum=2, **{"not": "requester"})
    output = {"votes": "${{ steps.review.votes.map(vote, [vote.by, vote.for]) }}"}
    run = begin(mesh, steps, data={"amount": 10, "by": "cy"}, requester="${{ event.data.by }}", output=output)
    with pytest.raises(Refused, match="delegation"):
        run.approve("review", by="eve", on_behalf="ana")
    with pytest.raises(Refused, match="90 days"):
        mesh.delegate("ana", "eve", lasts="91d")
    mesh.delegate("ana", "eve", roles=["manager"])
    run.approve("review", by="eve", on_behalf="ana")
    mesh.delegate("cy", "ben")
    with pytest.raises(Refused, match="excluded"):
        run.approve("review", by="ben", on_behalf="cy")
    # her own word takes the place of what was voted for her
    run.approve("review", by="ana", reason="I am back")
    with pytest.raises(Refused, match="represented"):
        run.approve("review", by="eve", on_behalf="ana")
    run.withdraw("review", by="ana")
    run.approve("review", by="eve", on_behalf="ana")
    run.approve("review", by="ben")
    assert run.outcome.data == {"votes": [["eve", "ana"], ["ben", ""]]}


@scenario
def an_agent_asks_for_one_call(mesh: MeshKit) -> None:
    """The agent asks twice in the middle of its work, and nothing of it runs while people think."""
    for name in ("ana", "ben"):
        mesh.person(name, roles="finance")

    async def buy(order: dict[str, Any], ctx: Context) -> dict[str, Any]:
        paid = await ctx.approve("pay", ask=f"Pay {order['amount']}?", payload=order)
        sent = await ctx.approve("ship", ask="Ship it?", payload={"to": order["to"]})
        return {"attempt": ctx.attempt, "paid": paid.payload, "by": paid.by, "sent": sent.approved, "why": sent.reason}

    mesh.agent("buyer", buy)
    step = {
        "agent": "buyer",
        "input": "${{ event.data }}",
        "retry": {"attempts": 1},
        "timeout": "1m",
        "approve": {"role": "finance", "quorum": 2, "deadline": "2d"},
    }
    run = begin(mesh, {"buy": step}, data={"amount": 10, "to": "Bern"})
    assert run.waits_for("buy.tool-pay").question == "Pay 10?"
    run.reaches("buy", "suspended")
    run.edit("buy.tool-pay", {"amount": 9, "to": "Bern"}, by="ana")
    run.approve("buy.tool-pay", by="ana")
    run.approve("buy.tool-pay", by="ben")
    run.reject("buy.tool-ship", by="ben", reason="it is broken")
    paid = {"amount": 9, "to": "Bern"}
    why = "it is broken"
    assert run.outcome.data == {"buy": {"attempt": 3, "paid": paid, "by": "ben", "sent": False, "why": why}}


@scenario
def an_agent_that_asks_in_vain(mesh: MeshKit) -> None:
    """Nobody answers in time. Then the workflow is cancelled with a question of the agent open."""
    mesh.person("ana", roles="finance")

    async def buy(price: int, ctx: Context) -> bool:
        verdict = await ctx.approve("pay", ask="Pay?", payload=price)
        return verdict.expired and not verdict.approved

    mesh.agent("buyer", buy)
    buying = {"agent": "buyer", "approve": {"role": "finance"}}
    steps = {
        "soon": {**buying, "input": 1, "approve": {"role": "finance", "deadline": "300ms"}},
        "late": {**buying, "input": 2, "needs": "soon", "if": "steps.soon"},
    }
    run = begin(mesh, steps)
    run.waits_for("soon.tool-pay")
    mesh.advance("400ms")
    run.waits_for("late.tool-pay")
    run.cancel(by="op", reason="bought elsewhere")
    with pytest.raises(Refused, match="closed"):
        run.approve("late.tool-pay", by="ana")
