"""Virtual time: it jumps, and a seed repeats it.

It stops for the dead, and it tells who waits for nothing.
"""

import asyncio
import random
import time
from pathlib import Path

import pytest

from mesh.testing.virtual_time.loop import (
    Deadlock,
    SeededEntropy,
    VirtualClock,
    VirtualTimeLimit,
    VirtualTimeLoop,
    run,
)

SEEDS = range(20)


def test_waiting_takes_no_real_time() -> None:
    async def main(loop: VirtualTimeLoop) -> float:
        await asyncio.sleep(86_400)
        return loop.time()

    began = time.monotonic()
    assert run(main) == pytest.approx(86_400, abs=0.01)
    assert time.monotonic() - began < 3_600  # and not a day, however busy the machine is


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_timers_fire_in_the_order_of_their_times(seed: int | None) -> None:
    async def main(loop: VirtualTimeLoop) -> list[int]:
        fired: list[int] = []
        for n in (5, 3, 9, 1, 7):
            loop.call_later(n, fired.append, n)
        await asyncio.sleep(10)
        return fired

    assert run(main, seed=seed) == [1, 3, 5, 7, 9]


def _interleaving(seed: int | None) -> list[str]:
    async def main(_: VirtualTimeLoop) -> list[str]:
        seen: list[str] = []

        async def worker(name: str) -> None:
            for n in range(5):
                seen.append(f"{name}{n}")
                await asyncio.sleep(0)

        await asyncio.gather(*(worker(name) for name in "abc"))
        return seen

    return run(main, seed=seed)


def test_one_seed_is_one_run_and_seeds_differ() -> None:
    runs = {seed: _interleaving(seed) for seed in SEEDS}
    assert all(_interleaving(seed) == seen for seed, seen in runs.items())
    assert len({tuple(seen) for seen in runs.values()}) > 10


def test_without_a_seed_the_order_is_asyncios() -> None:
    assert _interleaving(None) == [f"{name}{n}" for n in range(5) for name in "abc"]


@pytest.mark.parametrize("seed", SEEDS)
def test_tasks_begin_in_the_order_they_were_created(seed: int) -> None:
    async def main(_: VirtualTimeLoop) -> list[int]:
        begun: list[int] = []

        async def begin(n: int) -> None:
            begun.append(n)

        await asyncio.gather(*(begin(n) for n in range(10)))
        return begun

    assert run(main, seed=seed) == list(range(10))


def test_a_deadlock_names_who_waits_and_where() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main(loop: VirtualTimeLoop) -> None:
        await asyncio.gather(loop.create_task(wait_for_nobody(), name="the-lonely-one"))

    with pytest.raises(Deadlock, match=r"the-lonely-one at .*locks\.py"):
        run(main)


def test_a_run_past_its_limit_ends() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        for _ in range(100):
            await asyncio.sleep(60)

    with pytest.raises(VirtualTimeLimit, match="3600"):
        run(main, limit_s=3600)


def test_what_nobody_handled_is_raised() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        loop.call_soon(int, "no number")
        await asyncio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as raised:
        run(main)
    assert isinstance(raised.value.exceptions[0], ValueError)


def test_the_result_and_the_exception_of_main_come_back() -> None:
    async def main(_: VirtualTimeLoop) -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        run(main)


def test_what_still_runs_at_the_end_is_cancelled() -> None:
    ended: list[str] = []

    async def go_on() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(5)
            ended.append("cleaned up")

    async def main(loop: VirtualTimeLoop) -> None:
        loop.create_task(go_on())
        await asyncio.sleep(1)

    run(main)
    assert ended == ["cleaned up"]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_step_of_the_dead_runs(seed: int) -> None:
    """Neither its loop, nor a task that it started, nor a timer, nor a `finally`."""
    steps: list[str] = []
    unwound: list[str] = []

    async def child(loop: VirtualTimeLoop) -> None:
        try:
            while True:
                loop.call_later(0.5, steps.append, "timer")
                await asyncio.sleep(0.3)
                steps.append("child")
        finally:
            (unwound or steps).append("finally")

    async def process(loop: VirtualTimeLoop) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child(loop))
            group.create_task(child(loop))

    async def main(loop: VirtualTimeLoop) -> int:
        router = loop.incarnation("router")
        killed: list[float] = []
        router.on_kill(lambda: killed.append(loop.time()))
        router.start(process(loop))
        await asyncio.sleep(10.1)
        router.kill()
        router.kill()
        assert len(killed) == 1
        count = len(steps)
        assert count > 50
        await asyncio.sleep(100)
        assert len(steps) == count
        assert "finally" not in steps
        unwound.append("from here on")
        return count

    run(main, seed=seed)
    assert unwound == ["from here on", "finally", "finally"]


def test_one_incarnation_goes_on_after_the_death_of_another() -> None:
    async def count(steps: list[int]) -> None:
        while True:
            await asyncio.sleep(1)
            steps.append(len(steps))

    async def main(loop: VirtualTimeLoop) -> tuple[int, int]:
        first, second = loop.incarnation("first"), loop.incarnation("second")
        dead: list[int] = []
        alive: list[int] = []
        first.start(count(dead))
        second.start(count(alive))
        await asyncio.sleep(10.5)
        first.kill()
        await asyncio.sleep(10)
        return len(dead), len(alive)

    assert run(main) == (10, 20)


def test_a_process_that_is_paused_at_the_end_is_unwound_too() -> None:
    unwound: list[str] = []

    async def main(loop: VirtualTimeLoop) -> None:
        def tick() -> None:  # so that the loop always has something to wait for
            loop.call_later(1, tick)

        async def work() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                unwound.append("the process came to its end")

        tick()
        paused = loop.incarnation("paused")
        paused.start(work())
        await asyncio.sleep(1)
        paused.pause()

    run(main, seed=1)
    assert unwound == ["the process came to its end"]


def test_a_task_that_a_dead_one_waits_for_may_be_killed_from_within() -> None:
    async def main(loop: VirtualTimeLoop) -> list[str]:
        seen: list[str] = []
        doomed = loop.incarnation("doomed")

        async def die() -> None:
            doomed.kill()
            seen.append("the step goes on to its next wait")
            await asyncio.sleep(0)
            seen.append("never")

        doomed.start(die())
        await asyncio.sleep(1)
        return seen

    assert run(main) == ["the step goes on to its next wait"]


@pytest.mark.parametrize("seed", [None, 1])
def test_there_are_no_threads_sockets_or_processes(seed: int | None, tmp_path: Path) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        with pytest.raises(RuntimeError, match="no threads"):
            await asyncio.to_thread(int)
        with pytest.raises(RuntimeError, match="no threads"):
            loop.call_soon_threadsafe(int)
        with pytest.raises(RuntimeError, match="no sockets"):
            await asyncio.open_connection("127.0.0.1", 9)
        with pytest.raises(RuntimeError, match="no sockets"):
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        with pytest.raises(RuntimeError, match="no processes"):
            await asyncio.create_subprocess_exec(str(tmp_path / "nothing"))

    run(main, seed=seed)


def test_the_clock_shows_whole_milliseconds_after_its_epoch() -> None:
    async def main(loop: VirtualTimeLoop) -> list[int]:
        clock = VirtualClock(loop, epoch_ms=1_000_000, skew_ms=5)
        times = [clock.now_ms()]
        for _ in range(3):
            await asyncio.sleep(0.1)
            times.append(clock.now_ms())
        return times

    times = run(main)
    assert times[0] == 1_000_005
    assert [later - times[0] for later in times] == [0, 100, 200, 300]


def test_entropy_is_repeated_by_its_seed() -> None:
    first, second = SeededEntropy(random.Random(3)), SeededEntropy(random.Random(3))
    tokens = [first.token() for _ in range(5)]
    assert tokens == [second.token() for _ in range(5)]
    assert len(set(tokens)) == 5
    assert all(len(token) == 32 for token in tokens)


def test_a_loop_runs_moment_by_moment_for_one_who_does_not_wait_in_it() -> None:
    loop, seen = VirtualTimeLoop(step_s=0.0), []

    async def tick() -> None:
        for number in range(4):
            seen.append((number, loop.time()))
            await asyncio.sleep(10)

    task = loop.create_task(tick())
    assert not loop.run_until(0.0)
    assert seen == [(0, 0.0)]  # what needs no time
    assert loop.next_timer_s() == 10.0
    assert loop.run_until(100.0, lambda: len(seen) == 2)  # up to the moment that is waited for
    assert loop.time() == 10.0
    assert not loop.run_until(25.0)
    assert (seen[-1], loop.time()) == ((2, 20.0), 25.0)
    before = loop.steps
    assert not loop.run_until(29.0)
    assert loop.steps == before  # nothing was due, and nothing ran
    task.cancel()
    loop.unwind()


def test_a_leap_makes_what_was_due_late_once_and_in_order() -> None:
    loop, seen = VirtualTimeLoop(step_s=0.0), list[tuple[str, float]]()
    sleeper, other = loop.incarnation("sleeper"), loop.incarnation("other")

    async def poll(name: str, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            seen.append((name, loop.time()))

    sleeper.start(poll("often", 1))
    other.start(poll("seldom", 50))
    loop.run_until(0.0)
    assert (loop.next_timer_s(of=sleeper), loop.next_timer_s(of=other)) == (1.0, 50.0)
    loop.leap(60.0)
    loop.run_until(60.0)
    assert seen == [("often", 60.0), ("seldom", 60.0)]
    loop.leap(5.0)
    assert loop.time() == 60.0  # time only goes forward
    loop.unwind()
