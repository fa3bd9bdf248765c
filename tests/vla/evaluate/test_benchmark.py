"""`vla.evaluate.benchmark`: policies × regimes on the same scenes, pooled over training seeds, resumable."""

import json

import pytest

from robot_io import UserError
from vla.evaluate.benchmark import benchmark, draw
from vla.results import load_rows, markdown, save_rows

EXPERT = "robot_io.tabletop.expert:Expert"


def by_metric(rows, regime):
    return {row["metric"]: row for row in rows if row["cell"]["regime"] == regime}


def test_cells_are_pooled_over_training_seeds_and_go_on_where_they_stopped(tmp_path):
    def run():
        return benchmark({"expert": [EXPERT, EXPERT]}, ["distractors 1"], trials=2, out=tmp_path, command="made by hand")

    found = by_metric(run(), "distractors 1")
    assert found["success"]["n"] == 4 and found["success"]["mean"] == 1 and found["success"]["low"] < 0.6
    assert found["wrong_object"]["mean"] == 0 and found["latency_ms"]["mean"] > 0
    assert found["success"]["seeds"] == [20_000, 20_001] and found["success"]["cell"]["training seeds"] == "2"
    file = tmp_path / "expert-1" / "distractors-1.jsonl"
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    file.write_text("".join(json.dumps(row) + "\n" for row in (first | {"wrong_object": True}, second)))
    assert by_metric(run(), "distractors 1")["wrong_object"]["mean"] == 0.25, "a finished trial must not run again"


def test_where_the_target_is_absent_success_is_to_abstain(tmp_path):
    found = by_metric(benchmark({"expert": [EXPERT]}, ["absent"], trials=1, out=tmp_path, split="validation"), "absent")
    assert found["success"]["mean"] == 1 and found["success"]["seeds"] == [10_000]


@pytest.mark.parametrize("policy, regime, message", [
    (EXPERT, "absnt", "did you mean 'absent'"), ("no/such/folder", "absent", "no such folder"),
])
def test_a_mistake_is_refused_before_any_trial(tmp_path, policy, regime, message):
    with pytest.raises(UserError, match=message):
        benchmark({"expert": [EXPERT], "other": [policy]}, ["clean", regime], out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_make_a_table_and_a_figure(tmp_path):
    rows = [
        {"cell": {"policy": policy, "regime": regime}, "metric": "success", "mean": mean, "low": mean - 0.1, "high": mean + 0.1,
         "n": 50, "seeds": [20_000], "recipe": ""}
        for policy, mean in (("raw", 0.3), ("grounded", 0.8)) for regime in ("clean", "distractors 7", "absent")
    ]
    save_rows(tmp_path / "clutter.json", rows)
    assert "| grounded | absent | 80.0 % [70.0, 90.0] | 50 |" in markdown(load_rows(tmp_path / "clutter.json"))
    draw(rows, tmp_path / "clutter.png")
    assert (tmp_path / "clutter.png").read_bytes().startswith(b"\x89PNG")
