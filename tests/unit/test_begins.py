"""Which tasks may begin: what a commit says of it, and what a process that died leaves to the next.

The last test is the rule itself in random runs: tasks that kill, neighbours that do not, partitions
that move, deaths at any moment.
"""

import random
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

from mesh.ports import Committed, TopicPartition
from mesh.services.agent_runtime.begins import MAX_NAMED, Begins, Life, Tenure, tenure_of
from mesh.services.agent_runtime.offsets import MAX_METADATA_CHARS, TaskOffsets
from mesh.services.agent_runtime.solitude import DEATHS
from mesh.services.agent_runtime.work import AssignedPartition

LIFE = Life("host-1", "17")
PLACE = TopicPartition("tasks", 0)


def begins(first: int = 0) -> Begins:
    return Begins(first, LIFE)


def accepted(one: Begins, concurrency: int = 4, waiting: int = 0) -> Begins:
    one.accept(one.propose(concurrency, waiting))
    return one


def test_nothing_may_begin_before_a_commit_says_so() -> None:
    one = begins(7)
    assert one.line == 7
    assert accepted(one).line == 7 + 8


def test_the_line_runs_ahead_by_what_was_begun_since_the_last_commit() -> None:
    one = accepted(begins())
    for offset in range(20):
        one.begin(offset)
    assert accepted(one).line == 20 + 80
    assert accepted(one).line == 100, "it never falls"


def test_the_line_reaches_the_first_record_that_there_is() -> None:
    assert accepted(begins(), waiting=500).line == 508


def test_a_task_with_deaths_is_named_one_by_one_until_it_is_done() -> None:
    one = begins()
    one.want(3)
    assert one.named == frozenset()
    proposal = one.propose(4)
    one.finish(3)
    one.accept(proposal)
    assert one.named == frozenset(), "it was done before the broker had the commit"
    one.want(5)
    assert accepted(one).named == {5}
    one.finish(5)
    assert one.named == frozenset()


def test_only_so_many_are_named_at_once() -> None:
    one = begins()
    for offset in range(2 * MAX_NAMED):
        one.want(offset)
    assert accepted(one).named == set(range(MAX_NAMED))
    one.finish(0)
    assert max(accepted(one).named) == MAX_NAMED


def test_the_text_says_what_the_next_owner_needs_and_older_readers_pass_over_it() -> None:
    one = begins(4)
    one.want(6)
    accepted(one)
    offsets = TaskOffsets(Committed(4))
    for offset in range(4, 10):
        assert offsets.begin(offset)
    for offset in (5, 6, 8):
        offsets.finish(offset)
    committed = offsets.committed(lambda offset: one.text(offset, one.propose(4)))
    assert committed == Committed(4, "t1:1+2,1+1,;ohost-1~17;l8;x2")
    assert tenure_of(*committed) == Tenure("host-1~17", 12, frozenset({6}))
    assert [offset for offset in range(4, 10) if not TaskOffsets(committed).is_done_elsewhere(offset)] == [4, 7, 9]


@pytest.mark.parametrize("text", ["", "t1:1+2", "hello", ",;", ",;l4", "t1:,;", "t2:1+1,;x1"])
def test_a_text_without_an_open_tenure_has_none(text: str) -> None:
    assert tenure_of(4, text) is None


def test_a_text_that_is_damaged_suspects_nothing_beyond_what_can_be_read() -> None:
    assert tenure_of(4, "t1:,;oa~1;lXX;x-1.2.zzzzzzzzzzzzzzzzzzzz") == Tenure("a~1", 4, frozenset({6}))


def test_the_name_of_a_process_is_kept_short_and_plain() -> None:
    strange = Begins(0, Life("a host;with,odd~" + "n" * 500, "1"))
    found = tenure_of(0, strange.text(0, strange.propose(1)))
    assert found is not None
    assert found.instance.startswith("a_host_with_odd_nnn")
    assert len(found.life) < 200


def test_done_spans_leave_room_for_it() -> None:
    offsets, one = TaskOffsets(), begins()
    for offset in range(20_000):
        offsets.begin(offset)
    for offset in range(1, 20_000, 2):
        offsets.finish(offset)
    for offset in range(0, 2 * MAX_NAMED, 2):
        one.want(offset)
    committed = offsets.committed(lambda offset: one.text(offset, one.propose(8)))
    assert len(committed.metadata) <= MAX_METADATA_CHARS
    found = tenure_of(*committed)
    assert found is not None
    assert len(found.named) == MAX_NAMED


def test_a_share_that_is_our_own_and_came_back_suspects_nobody() -> None:
    text = accepted(begins()).text(0, begins().propose(4))
    ours = AssignedPartition(PLACE, Committed(0, text), LIFE)
    assert ours.dead is None
    assert ours.begins.line == 8
    other = AssignedPartition(PLACE, Committed(0, text), Life("host-1", "18"))
    assert other.dead is not None
    assert [offset for offset in range(20) if other.may_have_begun(offset)] == list(range(8))
    assert other.dead is None, "beyond what it may have begun nothing is looked at"


# The rule in random runs --------------------------------------------------------------------------

MOST_DEATHS = 3


@dataclass
class Owner:
    """What the workflow's owner knows of a task."""

    attempt: int = 1
    deaths: int = 0
    status: str = "running"


@dataclass
class Replica:
    """One process: its life, the partitions that it holds, and what runs in it."""

    name: str
    life: int = 0
    shares: dict[int, AssignedPartition] = field(default_factory=dict)
    running: dict[tuple[int, int], str] = field(default_factory=dict)
    lone: tuple[int, int] | None = None  # keeps all others from beginning, until it ends


class Runs:
    """Two replicas over two partitions; `killers` end the process, `neighbours` succeed."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        killers = [f"killer-{n}" for n in range(self.rnd.choice((1, 1, 2, 3)))]
        neighbours = [f"neighbour-{n}" for n in range(self.rnd.choice((2, 6, 12)))]
        self.concurrency = self.rnd.choice((1, 4, 8))
        self.tasks = {name: Owner() for name in killers + neighbours}
        self.logs: list[list[tuple[str, int, int]]] = [[], []]
        for name in self.rnd.sample(list(self.tasks), len(self.tasks)):
            self.rnd.choice(self.logs).append((name, 1, 0))
        self.committed: list[Committed | None] = [None, None]
        self.replicas = [Replica("a"), Replica("b")]
        self.results: deque[tuple[str, str, int]] = deque()
        self.begun: Counter[str] = Counter()
        for number in range(2):
            self.assign(number, self.rnd.choice(self.replicas))

    def assign(self, number: int, to: Replica) -> None:
        to.shares[number] = AssignedPartition(
            TopicPartition("tasks", number), self.committed[number], Life(to.name, str(to.life))
        )

    def commit(self, replica: Replica, number: int) -> None:
        share = replica.shares[number]
        waiting = next((o for o in range(len(self.logs[number])) if self.is_open(share, number, o)), 0)
        proposal = share.begins.propose(self.concurrency, waiting)
        self.committed[number] = share.offsets.committed(lambda offset: share.begins.text(offset, proposal))
        share.begins.accept(proposal)

    def is_open(self, share: AssignedPartition, number: int, offset: int) -> bool:
        return offset in share.offsets.open or (
            offset >= self.read(share) and not share.offsets.is_done_elsewhere(offset)
        )

    def read(self, share: AssignedPartition) -> int:
        return max([*share.offsets.open, *share.working, -1]) + 1

    def step(self) -> None:
        replica = self.rnd.choice(self.replicas)
        if self.results and self.rnd.random() < 0.5:
            self.decide(*self.results.popleft())
        elif replica.running and self.rnd.random() < 0.5:
            self.end_one(replica)
        elif replica.shares and self.rnd.random() < 0.3:
            self.commit(replica, self.rnd.choice(list(replica.shares)))
        elif replica.shares:
            self.begin_one(replica, self.rnd.choice(list(replica.shares)))

    def decide(self, word: str, name: str, attempt: int) -> None:
        task = self.tasks[name]
        if task.status != "running":
            return
        if word == "succeeded":
            task.status = word
        elif attempt == task.attempt:
            task.deaths += 1
            if task.deaths >= MOST_DEATHS:
                task.status = "agent_died"
                return
            task.attempt += 1
            self.rnd.choice(self.logs).append((name, task.attempt, task.deaths))

    def end_one(self, replica: Replica) -> None:
        number, offset = self.rnd.choice(list(replica.running))
        name = replica.running[number, offset]
        if name.startswith("killer"):
            self.die(replica)
            return
        del replica.running[number, offset]
        if replica.lone == (number, offset):
            replica.lone = None
        self.results.append(("succeeded", name, self.logs[number][offset][1]))
        share = replica.shares[number]
        share.offsets.finish(offset)
        share.begins.finish(offset)

    def die(self, replica: Replica) -> None:
        lost, replica.shares = list(replica.shares), {}
        replica.running, replica.lone, replica.life = {}, None, replica.life + 1
        for number in lost:
            self.assign(number, self.rnd.choice(self.replicas))

    def begin_one(self, replica: Replica, number: int) -> None:
        share, log = replica.shares[number], self.logs[number]
        for offset in range(len(log)):
            name, attempt, deaths = log[offset]
            if (number, offset) in replica.running or not self.take(share, number, offset):
                continue
            dead = share.dead
            if dead is not None and share.may_have_begun(offset) and (not deaths or offset in dead.named):
                self.results.append(("interrupted", name, attempt))
                share.offsets.finish(offset)
                return
            task = self.tasks[name]
            if task.status != "running" or attempt != task.attempt:  # withdrawn
                share.offsets.finish(offset)
                if replica.lone == (number, offset):
                    replica.lone = None
                return
            if not self.may_begin(replica, share, offset, deaths):
                return
            share.begins.begin(offset)
            replica.running[number, offset] = name
            self.begun[name] += 1
            return

    def take(self, share: AssignedPartition, number: int, offset: int) -> bool:
        """Whether the record is still to be dealt with; reading it for the first time."""
        return share.offsets.begin(offset) or offset in share.offsets.open

    def may_begin(self, replica: Replica, share: AssignedPartition, offset: int, deaths: int) -> bool:
        place = (share.partition.partition, offset)
        if len(replica.running) >= self.concurrency or replica.lone not in (None, place):
            return False
        if deaths >= DEATHS:
            if replica.running:
                return False
            replica.lone = place  # first alone, then named: who is named and waits could die of another
        if not deaths:
            return offset < share.begins.line
        if offset not in share.begins.named:
            share.begins.want(offset)
            return False
        return True


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.deep) for n in range(100, 1000, 100))])
def test_a_killer_is_begun_three_times_and_no_neighbour_fails(first: int) -> None:
    for seed in range(first, first + 100):
        runs = Runs(seed)
        for _ in range(20_000):
            if all(task.status != "running" for task in runs.tasks.values()):
                break
            runs.step()
        for name, task in runs.tasks.items():
            expected = "agent_died" if name.startswith("killer") else "succeeded"
            assert task.status == expected, (seed, name, task)
            assert runs.begun[name] <= MOST_DEATHS, (seed, name, runs.begun[name])
