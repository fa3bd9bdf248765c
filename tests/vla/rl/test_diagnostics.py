"""The critic's diagnostics: numbers that mean what they say, advice, and the value along a rollout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robot_io import UserError
from vla.evaluate.film import read_film
from vla.rl.diagnostics import Reading, advice, calibration, calibration_error
from vla.rl.look import look
from vla.rl.loop import learn
from vla.rl.strip import HEIGHT, under

RANDOM = np.random.default_rng(0)


def test_a_critic_that_says_the_truth_is_calibrated_and_one_that_shifts_is_not():
    mc = RANDOM.uniform(0, 1, 400).astype(np.float32)
    assert calibration_error(mc, mc) == pytest.approx(0, abs=1e-6)
    assert calibration_error(mc + 0.3, mc) == pytest.approx(0.3, abs=1e-4)
    assert calibration_error(np.full(400, mc.mean()), mc) < 0.05, "a constant at the mean is calibrated, and knows nothing"
    assert sum(count for *_, count in calibration(mc, mc)) == 400


def test_numbers_tell_bias_rank_and_what_the_policy_promises_itself():
    mc = RANDOM.uniform(0, 1, 200).astype(np.float32)
    success, source = mc > 0.5, (np.arange(200) % 2)
    reading = Reading(mc**2 + 0.1, mc + 0.4, mc, success, source, ("demos", "rollouts"))
    numbers = reading.numbers()
    assert numbers["val_rank"] == pytest.approx(1)
    assert numbers["val_over"] == pytest.approx(0.4, abs=1e-5)
    assert numbers["val_bias"] == pytest.approx(float((mc**2 + 0.1 - mc).mean()), abs=1e-5)
    apart = reading.by_source()
    assert set(apart) == {f"{name}, {how}" for name in ("demos", "rollouts") for how in ("successes", "failures")}
    assert Reading(np.zeros(5), mc[:5], mc[:5], success[:5], source[:5], ("a", "b")).numbers()["val_rank"] == 0


def measured(step: int, calibration: float, over: float = 0.0, rank: float = 0.9) -> dict:
    return {"step": step, "val_calibration": calibration, "val_over": over, "val_rank": rank, "val_bias": 0.0}


@pytest.mark.parametrize(("log", "words"), [
    ([], "Nothing was held out"),
    ([measured(100, 0.2), measured(200, 0.1)], "still improving at step 200"),
    ([measured(100, 0.1), measured(200, 0.3, over=0.5)], "Stop at about step 100"),
    ([measured(100, 0.1), measured(200, 0.11)], "No sign of over-training"),
    ([measured(100, 0.1, rank=0.05)], "does not know good from bad")])
def test_it_says_when_to_stop(log: list[dict], words: str):
    assert words in advice([{"step": 1, "loss": 2.0}, *log])


def test_the_strip_draws_values_so_far_under_each_frame():
    frames = [np.full((20, 40, 3), shade, np.uint8) for shade in (10, 20, 30)]
    made = under(frames, np.array([0.1, 0.5, 1.0], np.float32), success=True)
    assert [frame.shape for frame in made] == [(20 + HEIGHT, 40, 3)] * 3
    assert all((picture[:20] == frame).all() for picture, frame in zip(made, frames, strict=True))
    drawn = [(picture[20:] != 24).any(2).sum() for picture in made]
    assert drawn[0] < drawn[1] < drawn[2]


def test_a_finished_run_is_looked_at_and_an_unfinished_one_is_refused(rl_recipe: Callable, tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="has no critic"):
        look(run, tmp_path, 0)
    learn(rl_recipe("q_chunking", "diffusion"), run, progress=False)
    weights = (run / "critic" / "critic.safetensors").read_bytes()
    seen = look(run, tmp_path / "figures", 3)
    assert seen.figure.read_bytes().startswith(b"\x89PNG")
    assert len(read_film(seen.film)) == seen.trial.steps
    assert set(seen.numbers) >= {"all", "drunk, failures"}
    assert (run / "critic" / "critic.safetensors").read_bytes() == weights
