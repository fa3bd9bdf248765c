"""`vla.demo`: the whole way on the toy robot leaves what it promises, and a second run only reads."""

import json
import shutil

import pytest
from rich.console import Console

from robot_io import SpecMismatch, UserError
from vla.demo import demo
from vla.evaluate.evaluate import evaluate
from vla.results import load_rows, markdown

OPTIONS = {
    "variants": {"one": "toy", "other": "toy"}, "conditions": {"clean": (), "in a hurry": ("robot.limit=5",)},
    "overrides": ["robot.kind=toy_robot:ToyRobot", "robot.limit=8", "train.device=cpu"],
    "episodes": 6, "trials": 3, "workers": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo(folder, **OPTIONS, console=Console(quiet=True))
    return folder


def test_it_leaves_what_it_promises(run):
    for name in ("report.html", "rollouts.mp4", "summary.json", "policy/model.safetensors", "data/meta/info.json"):
        assert (run / name).stat().st_size > 0, name
    numbers = json.loads((run / "summary.json").read_text())
    for key in ("success", "wrong_object", "untrained", "served"):
        assert numbers[key]["n"] == 3 and numbers[key].keys() == {"mean", "low", "high", "n"}
    assert 0 < numbers["latency_ms"]["p50"] <= numbers["latency_ms"]["p99"]
    assert 0 < numbers["train_seconds"] < numbers["total_seconds"]
    assert numbers["by_scene"].keys() == {"one, clean", "one, in a hurry", "other, clean", "other, in a hurry"}
    table = markdown(load_rows(run / "results.json"))
    assert "| one | clean |" in table and "| other | in a hurry |" in table


def test_every_condition_is_the_robot_that_it_says(run):
    def limits(name):
        return {json.loads(line)["robot"]["limit"] for line in (run / name).read_text().splitlines()}

    assert limits("one-clean.jsonl") == limits("other-clean.jsonl") == limits("served.jsonl") == {8}
    assert limits("one-in-a-hurry.jsonl") == limits("other-in-a-hurry.jsonl") == {5}


def test_the_served_policy_acts_as_the_one_in_this_process(run):
    def trials(name):
        rows = map(json.loads, (run / name).read_text().splitlines())
        return {row["seed"]: (row["success"], row["steps"], row["jerk"]) for row in rows}

    assert trials("served.jsonl") == trials("one-clean.jsonl")


def test_a_policy_for_another_robot_is_refused_before_any_trial(run, tmp_path):
    with pytest.raises(SpecMismatch, match=r"rate_hz: the policy says 10\.0, the robot says 20\.0"):
        evaluate(run / "policy", {"kind": "toy_robot:ToyRobot", "rate_hz": 20.0}, [0], out=tmp_path / "x.jsonl", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_policy_is_refused_before_any_trial(run, tmp_path):
    shutil.copytree(run / "policy", tmp_path / "policy")
    weights = bytearray((tmp_path / "policy" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "policy" / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"'model\.safetensors' is corrupted"):
        evaluate(tmp_path / "policy", {"kind": "toy_robot:ToyRobot"}, [0], out=tmp_path / "x.jsonl", progress=False)


def test_again_it_only_reads(run):
    before = {path: path.read_bytes() for path in run.glob("*.jsonl")}
    screen = Console(record=True, width=120, quiet=False, file=(run / "screen.txt").open("w"))
    demo(run, **OPTIONS, console=screen)
    assert {path: path.read_bytes() for path in run.glob("*.jsonl")} == before
    assert "served and in-process policy agree on 3 of 3 scenes" in screen.export_text()
