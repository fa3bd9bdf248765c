"""Robots that ask at the same time are computed together, and none of them can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from scripted_policy import ScriptedPolicy, an_observation

from robot_io import ActionChunk, Observation, Underway, UserError
from vla.serve.batcher import Batcher, Busy, Call, Late, Request
from vla.serve.limits import Limits
from vla.serve.metrics import Metrics


class Together(ScriptedPolicy):
    """Also answers several robots at once, and remembers how many; the word "spoil" breaks a whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def session(self) -> Robot:
        return Robot(self)

    def infer_together(self, sessions: Sequence[Robot], observations: Sequence[Observation],
                       prefixes: Sequence[Underway] | None = None) -> list[ActionChunk]:
        assert prefixes is None or len(prefixes) == len(observations)
        self.batches.append(len(observations))
        if any(observation.instruction == "spoil" for observation in observations):
            raise RuntimeError("the whole batch is lost")
        return [self.infer(observation) for observation in observations]


class Robot:
    takes_prefix = True

    def __init__(self, policy: Together) -> None:
        self.policy = policy

    def infer(self, observation: Observation, prefix: Underway | None = None) -> ActionChunk:
        if observation.instruction == "spoil":
            raise UserError("instruction", "'spoil'")
        self.policy.batches.append(1)
        return self.policy.infer(observation)


@pytest.fixture
def policy() -> Together:
    return Together()


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(Limits(max_batch=4, max_waiting=6, batch_wait=0.2), Metrics())
    batcher.start()
    yield batcher
    batcher.close()


def hold(batcher: Batcher) -> threading.Event:
    """Keep the inference thread from computing until the event is set, so that requests gather."""
    taken, go = threading.Event(), threading.Event()
    batcher.submit(Call(lambda: taken.set() or go.wait(10)))
    assert taken.wait(10)
    return go


def ask(batcher: Batcher, policy: Together, session: Robot | None = None, seed: int = 0, **options: object) -> Future:
    observation = options.pop("observation", None) or an_observation(seed)
    return batcher.submit(Request("p", policy, session or policy.session(), observation, **options))


def test_what_waits_together_is_computed_together_and_answered_as_alone(batcher: Batcher, policy: Together) -> None:
    go = hold(batcher)
    answers = [ask(batcher, policy, seed=seed) for seed in range(6)]
    go.set()
    for seed, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.result(10)[0].actions, policy.infer(an_observation(seed)).actions)
    assert policy.batches == [4, 2]


def test_robots_in_step_wait_for_each_other_and_a_robot_alone_never_does(batcher: Batcher, policy: Together) -> None:
    alone = policy.session()
    started = time.perf_counter()
    for _ in range(3):
        ask(batcher, policy, alone).result(10)
    assert time.perf_counter() - started < 0.2 and policy.batches == [1, 1, 1]
    first, second = policy.session(), policy.session()
    go = hold(batcher)
    answers = [ask(batcher, policy, session) for session in (alone, first, second)]
    go.set()
    [answer.result(10) for answer in answers]
    late = threading.Timer(0.03, lambda: [ask(batcher, policy, session) for session in (first, second)])
    late.start()
    ask(batcher, policy, alone).result(10)  # the three are in step: the two others are worth 30 ms
    assert policy.batches[3:] == [3, 3]


def test_robots_that_have_come_apart_fall_into_step(batcher: Batcher) -> None:
    class Slow(Together):
        def infer(self, observation: Observation) -> ActionChunk:
            time.sleep(0.3)
            return super().infer(observation)

    policy = Slow()
    first, second = policy.session(), policy.session()
    one = ask(batcher, policy, first)
    time.sleep(0.05)
    other = ask(batcher, policy, second)  # waits longer for the first to be computed than it would wait for anybody to ask
    one.result(10)
    ask(batcher, policy, first).result(10)
    assert other.done() and policy.batches == [1, 2]


def test_only_what_looks_alike_is_computed_together(batcher: Batcher, policy: Together) -> None:
    plain, cameras = an_observation(), dict(an_observation().cameras)
    unposed = replace(plain, cameras=cameras | {"front": replace(cameras["front"], world_from_camera=None)})
    go = hold(batcher)
    answers = [ask(batcher, policy, observation=plain), ask(batcher, policy, observation=unposed),
               ask(batcher, policy, observation=plain), ask(batcher, Together(), observation=plain),
               ask(batcher, policy, prefix=Underway(np.zeros((2, 2), np.float32), 1)),
               ask(batcher, policy, prefix=Underway(np.zeros((1, 2), np.float32), 0))]
    go.set()
    assert [answer.result(10)[0].actions.shape for answer in answers] == [(4, 2)] * 6
    assert policy.batches == [2, 1, 2]


def test_one_bad_request_does_not_spoil_the_others(batcher: Batcher, policy: Together) -> None:
    go = hold(batcher)
    good, bad = ask(batcher, policy, seed=1), ask(batcher, policy, observation=an_observation(2, "spoil"))
    go.set()
    np.testing.assert_array_equal(good.result(10)[0].actions, policy.infer(an_observation(1)).actions)
    with pytest.raises(UserError, match="spoil"):
        bad.result(10)


def test_past_its_deadline_a_request_is_not_computed(batcher: Batcher, policy: Together) -> None:
    go = hold(batcher)
    late = ask(batcher, policy, deadline=time.perf_counter() + 0.01)
    in_time = ask(batcher, policy, deadline=time.perf_counter() + 10)
    time.sleep(0.05)
    go.set()
    assert in_time.result(10)[0].actions.shape == (4, 2) and policy.batches == [1]
    with pytest.raises(Late, match=r"not computed; expected an answer within its deadline of \d+ ms"):
        late.result(10)


def test_the_queue_is_bounded_and_a_robot_that_hangs_up_is_forgotten(batcher: Batcher, policy: Together) -> None:
    go = hold(batcher)
    answers = [ask(batcher, policy) for _ in range(6)]
    with pytest.raises(Busy, match="6 requests are waiting"):
        ask(batcher, policy)
    for answer in answers[1:]:
        answer.cancel()
    go.set()
    answers[0].result(10)
    batcher.submit(Call(lambda: None)).result(10)
    assert policy.batches == [1]
