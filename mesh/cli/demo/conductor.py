"""The course of a run: what is sent, answered and waited for, and when.

Owns the one loop. At each turn it sends the next event if its time has come, looks at the mesh, and
lets the script or the person answer, until every event has come to its end. It must not decide
anything about workflows: it publishes and answers as any client does.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from mesh.cli.approvals.answer import KEYS, ask
from mesh.cli.approvals.commands import Answer, Waiting, send_answer, verdict
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.approvals.listing import card
from mesh.cli.demo.news import Item, news_of, no_workflow, sent
from mesh.cli.demo.processes import Processes
from mesh.cli.demo.screen import Screen
from mesh.cli.demo.script import Delivery, Script
from mesh.cli.demo.view import View, Watcher
from mesh.cli.session import Session
from mesh.cli.text.format import one_line
from mesh.codec.approvals import Receipt
from mesh.core.state import Workflow
from mesh.errors import BrokerError, OperatorError
from mesh.ports import Broker, OutRecord
from mesh.services.client import Client

TURN_S: Final = 0.1
PATIENCE_S: Final = 90.0  # how long there may be no news while nobody is asked: twice a step's time-out
EVENT_S: Final = 0.3  # between two events, or two answers of the script, so that a viewer can follow
ANSWER_S: Final = 0.9
RECEIPT_S: Final = 60.0
EXCERPT: Final = 300  # characters of an issue's text above the question
SURE: Final = 0.7  # from this confidence on, the route does not ask anybody


class Stalled(OperatorError):
    """The mesh has stopped moving before everything came to its end."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the run ended.

    `answers`: those that were accepted, by workflow. `refused`: the receipts of those that were
    not. `by_hand`: whether a person gave one of the answers.
    """

    view: View
    answers: Mapping[str, Answer]
    by_hand: bool
    refused: tuple[Receipt, ...]


class Conductor:
    def __init__(
        self,
        *,
        session: Session,
        script: Script,
        broker: Broker,
        watcher: Watcher,
        processes: Processes,
        screen: Screen,
        partitions: int,
        by_hand: bool,
    ) -> None:
        self._session = session
        self._script = script
        self._broker = broker
        self._client: Client = session.client(broker)
        self._watcher = watcher
        self._processes = processes
        self._screen = screen
        self._pace = 1 if screen.is_watched else 0
        self._partitions = partitions
        self._asks = by_hand
        self._by_hand = False
        self._to_send = list(script.deliveries)
        self._sent: list[str] = []
        self._answers: dict[str, Answer] = {}
        self._refused: list[Receipt] = []
        self._news: list[Item] = []
        self._known: set[str] = set()  # deliveries of which the news has told what became of them
        self._heard_at = self._sent_at = self._answered_at = 0.0

    async def run(self) -> Ended:
        """Run until every event has come to its end.

        Raises `MeshEnded`, `Stalled`, and what the broker raises.
        """
        await self._turns(self._is_ready, act=False)
        view = await self._turns(self._has_ended, act=True)
        return Ended(view=view, answers=self._answers, by_hand=self._by_hand, refused=tuple(self._refused))

    async def _turns(self, done: Callable[[View], bool], *, act: bool) -> View:
        self._heard_at = time.monotonic()
        while True:
            self._processes.check()
            view = await self._look()
            if done(view):
                return view
            if act:
                await self._act(view)
            self._check_patience(view)
            await asyncio.sleep(TURN_S)

    async def _look(self) -> View:
        view = await self._watcher.look(tuple(self._sent), self._session.now_ms())
        news = [*self._news, *(item for entry in view.decisions for item in news_of(entry)), *self._strays(view)]
        self._news = []
        if news:
            self._heard_at = time.monotonic()
        self._screen.show(view, news)
        return view

    def _strays(self, view: View) -> list[Item]:
        fates = {one.name: (one, view.fates[one.name]) for one in self._script.deliveries if one.name in view.fates}
        new = [no_workflow(*fates[name]) for name in fates.keys() - self._known]
        self._known |= fates.keys()
        return [item for item in new if item is not None]

    def _is_ready(self, view: View) -> bool:
        return view.partitions >= self._partitions and all(view.agents.values())

    def _has_ended(self, view: View) -> bool:
        return not self._to_send and all(view.end_of(one) for one in self._script.deliveries)

    def _check_patience(self, view: View) -> None:
        if time.monotonic() - self._heard_at < PATIENCE_S:
            return
        open_ones = [one.short for one in self._script.deliveries if not view.end_of(one)]
        raise Stalled(
            f"nothing has happened for {PATIENCE_S:.0f} s, and without an end are: {', '.join(open_ones)}; "
            + self._processes.last_words()
        )

    async def _act(self, view: View) -> None:
        await self._send_next(view)
        if not self._asks:
            await self._answer_by_script(view.waiting)
        elif self._only_people_can_help(view):
            await self._ask_all(view)

    # Events ---------------------------------------------------------------------------------------

    async def _send_next(self, view: View) -> None:
        if not self._to_send or time.monotonic() - self._sent_at < self._pace * EVENT_S:
            return
        delivery = self._to_send[0]
        if not self._may_send(delivery, view):
            return
        self._to_send.pop(0)
        self._sent_at = time.monotonic()
        await self._send(delivery)
        self._sent.append(delivery.name)
        self._news.append(sent(delivery))

    def _may_send(self, delivery: Delivery, view: View) -> bool:
        before = next((one for one in self._script.deliveries if one.name == delivery.after), None)
        return before is None or bool(view.end_of(before))

    async def _send(self, delivery: Delivery) -> None:
        if delivery.event is not None:
            await self._client.publish(delivery.event)
            return
        headers = (("content-type", delivery.content_type.encode()),)
        record = OutRecord(topic=self._session.topics.events, key=None, value=delivery.raw, headers=headers)
        failures = await self._broker.send([record])
        if failures:
            raise BrokerError(f"the broker refused the record of {delivery.file}: {failures[0].message}")

    # Answers --------------------------------------------------------------------------------------

    async def _answer_by_script(self, waiting: Sequence[Waiting]) -> None:
        if waiting and time.monotonic() - self._answered_at >= self._pace * ANSWER_S:
            await self._answer(waiting[0], self._scripted(waiting[0]))

    def _scripted(self, one: Waiting) -> Answer:
        """What the manifest answers.

        It rejects a question that it does not foresee, which then shows as a wrong end.
        """
        delivery = self._script.of_workflow(one.row.workflow_id)
        if delivery is None or not delivery.reason:
            return Answer(decision="reject", reason="the script knows no answer")
        if delivery.review == "edit":
            edited = {**one.request.payload, **delivery.edit}
            return Answer(decision="approve", payload=edited, reason=delivery.reason)
        return Answer(decision="approve" if delivery.review == "approve" else "reject", reason=delivery.reason)

    def _only_people_can_help(self, view: View) -> bool:
        blocked = not self._to_send or not self._may_send(self._to_send[0], view)
        sent_ones = [one for one in self._script.deliveries if one.name in self._sent]
        return bool(view.waiting) and blocked and all(view.is_quiet(one) for one in sent_ones)

    async def _ask_all(self, view: View) -> None:
        self._screen.rest()
        for number, one in enumerate(view.waiting, 1):
            shown = card(
                one,
                self._session.now_ms(),
                position=f" question {number} of {len(view.waiting)} ",
                known=self._about(one, view),
            )
            self._screen.say("", shown)
            with interruptible():
                choice = ask(self._session, one, KEYS.replace("skip", "leave it to the script"))
            if choice is None:
                raise KeyboardInterrupt
            self._by_hand |= choice != "skip"
            receipt = await self._answer(one, choice if isinstance(choice, Answer) else self._scripted(one))
            self._screen.say(verdict(receipt))
        self._heard_at = time.monotonic()

    def _about(self, one: Waiting, view: View) -> list[tuple[str, str]]:
        """The issue that a question is about, and what makes the route ask."""
        delivery = self._script.of_workflow(one.row.workflow_id)
        workflow = view.workflows.get(one.row.workflow_id)
        if delivery is None or workflow is None:
            return []
        says = one_line(str(delivery.issue.get("body") or "(nothing)"), EXCERPT)
        return [("issue", f"{delivery.short}  {delivery.title}"), ("says", says), ("because", why_asked(workflow))]

    async def _answer(self, one: Waiting, answer: Answer) -> Receipt:
        """Answer through the topic, as anybody would. The receipt says if the answer counts."""
        by = self._script.approver
        receipt = await send_answer(self._session, self._broker, one, answer, by=by, timeout_s=RECEIPT_S)
        self._answered_at = time.monotonic()
        if receipt.status == "accepted":
            self._answers[one.row.workflow_id] = answer
        else:
            self._refused.append(receipt)
        return receipt


def why_asked(workflow: Workflow) -> str:
    """The values behind the route's condition. Empty if the outputs do not show them."""
    outputs = {name: state.output for name, state in workflow.steps.items() if isinstance(state.output, dict)}
    triage, duplicates = outputs.get("classify", {}), outputs.get("duplicates", {})
    confidence = triage.get("confidence")
    reasons = []
    if triage.get("severity") == "high":
        reasons.append("its severity is high")
    if isinstance(confidence, int | float) and confidence < SURE:
        reasons.append(f"the classifier is only {confidence:.0%} sure")
    if matches := [match for match in duplicates.get("matches", []) if isinstance(match, dict)]:
        reasons.append("it reads like " + ", ".join(f"#{match.get('number')}" for match in matches))
    return " and ".join(reasons)
