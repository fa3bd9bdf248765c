"""`vla.evaluate.evaluate`: the same trials whatever the workers, resumable, and strict about what is mixed."""

import json

import pytest
from toy_robot import ToyRobot

from robot_io import UserError
from vla.evaluate.evaluate import evaluate
from vla.evaluate.film import read_film
from vla.evaluate.seeds import SPLITS, seeds
from vla.evaluate.trials import read_rows
from vla.workers import WorkerError

ROBOT = {"kind": "toy_robot:ToyRobot"}
EXPERT, DRUNK = "toy_robot:Expert", "toy_robot:Drunk"


def outcomes(result):
    return [(t.seed, t.success, t.wrong_object, t.steps, t.jerk, t.instruction) for t in result.trials]


def test_workers_and_order_change_nothing(tmp_path):
    one = evaluate(DRUNK, ROBOT, [4, 2, 9, 7], workers=1, out=tmp_path / "one.jsonl", execute=4, progress=False)
    two = evaluate(DRUNK, ROBOT, [9, 7, 4, 2], workers=2, out=tmp_path / "two.jsonl", execute=4, progress=False)
    assert outcomes(one) == outcomes(two)
    assert [trial.seed for trial in one.trials] == [2, 4, 7, 9]
    assert one.success.n == 4 and one.success.low < one.success.mean + 1e-9


def test_a_killed_evaluation_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "trials.jsonl"
    whole = evaluate(EXPERT, ROBOT, range(3), out=out, films=[1], progress=False)
    lines = out.read_bytes().splitlines(keepends=True)
    marked = {**json.loads(lines[0]), "wall_seconds": 123.0}
    out.write_bytes(json.dumps(marked).encode() + b"\n" + lines[1] + lines[2][:40])  # killed while writing the third
    again = evaluate(EXPERT, ROBOT, range(3), out=out, films=[1], progress=False)
    assert outcomes(again) == outcomes(whole)
    assert again.trials[marked["seed"]].wall_seconds == 123.0, "a finished trial must not run again"
    assert sorted(row["seed"] for row in read_rows(out)) == [0, 1, 2]
    film = read_film(again.films[1])
    assert film.shape[1:] == (32, 64, 3) and len(film) == again.trials[1].steps + 1


def test_trials_that_no_longer_repeat_are_noticed(tmp_path):
    out = tmp_path / "trials.jsonl"
    evaluate(EXPERT, ROBOT, [5], out=out, progress=False)
    out.write_text(out.read_text().replace("go to the", "move to the"))  # as if the simulator had changed since
    with pytest.raises(UserError, match=r"seed 5: its instruction was 'move to .* and is now 'go to"):
        evaluate(EXPERT, ROBOT, [5], out=out, films=[5], progress=False)


def test_rows_are_complete_in_themselves(tmp_path):
    out = tmp_path / "trials.jsonl"
    result = evaluate(EXPERT, ROBOT, [5], out=out, progress=False)
    (row,) = read_rows(out)
    assert row["seed"] == 5 and row["policy"] == EXPERT and row["robot"] == ROBOT and row["spec"] == ToyRobot().spec.hash
    assert {"python", "numpy"} <= row["versions"].keys()
    success, wrong, cycle, latency = result.rows({"policy": "expert"}, "vla evaluate")
    assert success == {"cell": {"policy": "expert"}, "metric": "success", **result.success.to_dict(), "seeds": [5],
                       "recipe": "", "command": "vla evaluate"}
    assert wrong["metric"] == "wrong_object" and latency["metric"] == "latency_ms"
    assert (cycle["metric"], cycle["mean"]) == ("cycle_seconds", result.trials[0].seconds)


@pytest.mark.parametrize("change", [{"policy": DRUNK}, {"robot": {**ROBOT, "limit": 7}}, {"execute": 2}])
def test_a_file_of_another_setting_is_refused(tmp_path, change):
    asked = {"policy": EXPERT, "robot": ROBOT, "execute": 8}
    out = tmp_path / "trials.jsonl"
    evaluate(**asked, seeds=[0], out=out, progress=False)
    before = out.read_bytes()
    with pytest.raises(UserError, match="write to another file"):
        evaluate(**{**asked, **change}, seeds=[0, 1], out=out, progress=False)
    assert out.read_bytes() == before


def test_a_crash_names_the_seed(tmp_path):
    with pytest.raises(WorkerError, match=r"seed 2 failed: its process died \(exit code 11\)"):
        evaluate(EXPERT, {**ROBOT, "crash_on": 2}, range(3), out=tmp_path / "trials.jsonl", progress=False)
    assert [row["seed"] for row in read_rows(tmp_path / "trials.jsonl")] == [0, 1]


@pytest.mark.parametrize("policy, message", [
    ("no/such/folder", "no such folder"), ("toy_robot:Exprt", "module 'toy_robot' has no 'Exprt'"), (".", "has no recipe.yaml"),
])
def test_an_unknown_policy_is_one_clear_error(tmp_path, policy, message):
    with pytest.raises(UserError, match=message):
        evaluate(policy, ROBOT, [0], out=tmp_path / "trials.jsonl", progress=False)


def test_seeds_of_different_splits_never_meet():
    ranges = [set(split) for split in SPLITS.values()]
    assert sum(map(len, ranges)) == len(set.union(*ranges))
    assert list(seeds("test", 3)) == [20_000, 20_001, 20_002]
    with pytest.raises(UserError, match="did you mean 'test'"):
        seeds("tests", 3)
