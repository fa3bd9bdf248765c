"""Copies of a policy in processes of their own answer what the policy would, side by side, and one that dies comes back."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from stirred import stir
from toy_robot import ToyRobot

from robot_io import Observation, Underway, UserError
from robot_io.client import PolicyClient
from vla.data import Demonstrations
from vla.policy import Policy
from vla.sealed import SEAL
from vla.serve import PolicyServer
from vla.serve.batcher import Request
from vla.serve.replicas import Replicas, Seated, serving_copy


@pytest.fixture(scope="module")
def folder(toy_recipe: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = toy_recipe("head.kind=diffusion")
    data, folder = Demonstrations(recipe), tmp_path_factory.mktemp("replicas") / "policy"
    policy = Policy.build(recipe, data.spec, data.normalizer())
    stir(policy.head, 0.3)
    policy.save(folder)
    return folder


@pytest.fixture(scope="module")
def replicas(folder: Path) -> Iterator[Replicas]:
    replicas = Replicas(folder, ["cpu", "cpu"])
    yield replicas
    replicas.close()
    assert not any(copy._process.is_alive() for copy in replicas.copies)


@pytest.fixture
def observation() -> Observation:
    robot = ToyRobot()
    robot.reset(3)
    return robot.observe()


def test_copies_answer_as_the_policy_itself(folder: Path, replicas: Replicas, observation: Observation) -> None:
    policy = serving_copy(folder, ["cpu"])
    assert isinstance(policy, Policy)
    assert replicas.spec == policy.spec and replicas.recipe.hash == policy.recipe.hash and replicas.recipe.execute == policy.recipe.execute
    one, other, alone = replicas.session(), replicas.session(), policy.session()
    assert one.lane != other.lane
    for session in (one, other, alone):
        session.reset(7)
    for prefix in (None, Underway(np.full((3, 2), 0.1, np.float32), 1)):
        expected = alone.infer(observation, prefix=prefix).actions
        for session in (one, other):
            np.testing.assert_allclose(session.infer(observation, prefix=prefix).actions, expected, atol=1e-5)


def test_a_batch_is_computed_in_one_turn_and_robots_go_where_the_fewest_are(replicas: Replicas, observation: Observation) -> None:
    seats = [replicas.session() for _ in range(4)]
    assert sorted(seat.lane for seat in seats) == [0, 0, 1, 1]
    together = [seat for seat in seats if seat.lane == 0]
    for seed, seat in enumerate(together):
        seat.reset(seed)
    batch = [chunk.actions for chunk in replicas.infer_together(together, [observation, observation])]
    for seed, (seat, expected) in enumerate(zip(together, batch, strict=True)):
        seat.reset(seed)
        np.testing.assert_allclose(seat.infer(observation).actions, expected, atol=1e-5)
    assert not np.allclose(*batch)


def test_the_policys_own_refusal_crosses_the_border(replicas: Replicas, observation: Observation) -> None:
    blind = Observation({"front": observation.cameras["front"]}, observation.state, observation.instruction, 0.0)
    with pytest.raises(UserError, match="wrist"):
        replicas.session().infer(blind)


def test_a_copy_that_dies_comes_back_with_the_draws_its_robots_would_have_had(folder: Path, replicas: Replicas, observation: Observation) -> None:
    seat, alone = replicas.session(), Policy.load(folder).session()
    seat.reset(5)
    alone.reset(5)
    np.testing.assert_allclose(seat.infer(observation).actions, alone.infer(observation).actions, atol=1e-5)
    kill(seat)
    with pytest.raises(UserError, match=r"has only just been started|started again.*hold the robot"):
        seat.infer(observation)
    answer = until_answered(seat, observation)
    assert any(np.allclose(alone.infer(observation).actions, answer, atol=1e-5) for _ in range(3))  # one draw went down with the process
    bystander = next(copy for copy in replicas.copies if copy is not seat.copy)
    assert bystander._process.is_alive()


def test_a_copy_is_not_started_again_as_another_policy(folder: Path, tmp_path: Path, observation: Observation) -> None:
    shutil.copytree(folder, tmp_path / "policy")
    replicas = Replicas(tmp_path / "policy", ["cpu"])
    seat = replicas.session()
    kill(seat)
    (tmp_path / "policy" / SEAL).write_text((folder / SEAL).read_text() + " ")
    said: list[str] = []
    deadline = time.monotonic() + 120
    while not any("when serving began" in line for line in said):
        assert time.monotonic() < deadline
        with pytest.raises(UserError) as error:
            seat.infer(observation)
        said.append(str(error.value))
        time.sleep(0.1)
    replicas.close()


def test_robots_of_two_copies_are_never_in_one_batch(replicas: Replicas, observation: Observation) -> None:
    """Even where one batcher serves both: the server began with one copy, and two took over."""
    seats = [replicas.session() for _ in range(2)]
    assert len({Request("p", replicas, seat, observation).alike for seat in seats}) == 2


def test_a_robot_that_has_gone_is_forgotten_and_with_the_policy_its_processes_end(folder: Path, observation: Observation) -> None:
    replicas = Replicas(folder, ["cpu"])
    seat, other = replicas.session(), replicas.session()
    seat.infer(observation)
    del seat
    gc.collect()
    assert len(replicas.copies[0].seated) == 1 and replicas.copies[0]._gone == [0]
    other.infer(observation)
    assert replicas.copies[0]._gone == []
    process = replicas.copies[0]._process
    del replicas, other
    gc.collect()
    process.join(60)
    assert process.exitcode == 0


def test_a_folder_that_is_no_policy_is_refused_before_anybody_connects(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing"):
        Replicas(tmp_path / "nothing", ["cpu", "cpu"])


def test_robots_of_one_server_are_answered_by_both_copies(folder: Path, replicas: Replicas, observation: Observation) -> None:
    policy = Policy.load(folder)
    with PolicyServer(replicas, port=0) as server, PolicyClient(server.url) as first, PolicyClient(server.url) as second:
        for client in (first, second):
            client.reset(4)
        policy.reset(4)
        expected = policy.infer(observation).actions
        for client in (first, second):
            np.testing.assert_allclose(client.infer(observation).actions, expected, atol=1e-5)
        assert {seat.lane for copy in replicas.copies for seat in copy.seated} == {0, 1}
        server.service.reload("toy", policy)  # from two copies to the policy itself, on the same connections
        for client in (first, second):
            client.reset(4)
            policy.reset(4)
            np.testing.assert_allclose(client.infer(observation).actions, expected, atol=1e-5)


def kill(seat: Seated) -> None:
    os.kill(seat.copy._process.pid, signal.SIGKILL)
    seat.copy._process.join()


def until_answered(seat: Seated, observation: Observation) -> np.ndarray:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            return seat.infer(observation).actions
        except UserError:
            time.sleep(0.1)
    raise AssertionError("it never came back")
