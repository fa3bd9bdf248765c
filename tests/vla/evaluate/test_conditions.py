"""Trials by condition: rates, a test that keeps its level and finds what is there, and the table; trial files as parquet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from robot_io import UserError
from vla.evaluate.conditions import by_condition, heterogeneity, table
from vla.evaluate.episode import Trial
from vla.evaluate.export import to_parquet
from vla.evaluate.statistics import rate
from vla.evaluate.trials import Setting, TrialFile


def rows(**successes: tuple[int, int]) -> list[dict]:
    return [{"seed": i, "instruction": name, "success": i < won, "robot": {"task": {"distractors": len(name)}}}
            for name, (won, n) in successes.items() for i in range(n)]


def test_success_by_any_field_of_a_trial():
    found = by_condition(rows(ball=(1, 10), cube=(9, 10)), "instruction")
    assert found == {"ball": rate(1, 10), "cube": rate(9, 10)}
    assert by_condition(rows(ball=(1, 10), cubes=(9, 10)), "robot.task.distractors") == {"4": rate(1, 10), "5": rate(9, 10)}
    with pytest.raises(UserError, match="instruction"):
        by_condition(rows(ball=(1, 2)), "instructions")


def test_heterogeneity_is_found_where_it_is_and_seldom_where_it_is_not():
    assert heterogeneity({"ball": rate(1, 12), "cube": rate(11, 12)}) < 0.01
    assert heterogeneity({"ball": rate(5, 5)}) == 1.0 and heterogeneity({"ball": rate(5, 5), "cube": rate(7, 7)}) == 1.0
    random = np.random.default_rng(0)
    p_values = [heterogeneity({str(i): rate(int(random.binomial(8, 0.7)), 8) for i in range(4)}) for _ in range(40)]
    assert np.mean(np.array(p_values) < 0.05) <= 0.13  # 5 % and two standard errors of 40 draws


def test_the_table_says_it_all():
    shown = table({"raw": by_condition(rows(ball=(1, 10), cube=(9, 10)), "instruction")}, "instruction")
    assert "| ball | 10.0 % [1.8, 40.4] of 10 |" in shown and "do they differ" in shown


def test_trial_files_become_one_table(tmp_path: Path):
    for name, count in (("a", 3), ("b", 2)):
        file = TrialFile(tmp_path / f"{name}.jsonl", Setting("policy", "hash", "spec", {"kind": name}, 4, None))
        for seed in range(count):
            file.append(Trial(seed, seed > 0, False, 10, 1.0, 0.5, (2.0, 3.0), None, "go"))
    assert to_parquet({name: tmp_path / f"{name}.jsonl" for name in "ab"}, tmp_path / "trials.parquet") == 5
    found = pq.read_table(tmp_path / "trials.parquet").to_pydict()
    assert found["name"] == ["a", "a", "a", "b", "b"] and found["success"] == [False, True, True, False, True]
    assert found["recipe"] == ["hash"] * 5 and found["infer_ms"][0] == [2.0, 3.0]
    assert json.loads(found["robot"][0]) == {"kind": "a"} and "python" in json.loads(found["versions"][0])
