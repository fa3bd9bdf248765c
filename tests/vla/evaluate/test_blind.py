"""Blind trials: every policy once per scene in a drawn order, nothing lost, and who was who only at the end."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robot_io import UserError
from vla.cli import app
from vla.evaluate.blind import BlindSession

POLICIES = {"raw": "runs/raw", "grounded": "runs/grounded"}


def test_every_policy_drives_once_in_every_scene_in_a_drawn_order(tmp_path: Path):
    session = BlindSession(tmp_path / "s.jsonl", POLICIES, scenes=40, seed=0)
    assert Counter((turn.scene, turn.policy) for turn in session.turns) == Counter((s, p) for s in range(40) for p in POLICIES)
    first = Counter(turn.policy for turn in session.turns if turn.turn == 0)
    assert 10 < first["raw"] < 30
    other = BlindSession(tmp_path / "t.jsonl", POLICIES, scenes=40, seed=1)
    assert [turn.policy for turn in other.turns] != [turn.policy for turn in session.turns]


def test_it_goes_on_where_it_stopped_and_counts_whole_scenes(tmp_path: Path):
    path = tmp_path / "s.jsonl"
    session = BlindSession(path, POLICIES, scenes=3)
    for _ in range(3):
        turn = session.next
        session.record(turn, turn.policy == "grounded", "note")
    again = BlindSession(path)
    assert again.turns == session.turns and again.next == session.turns[3]
    assert again.successes() == {"raw": {0: False}, "grounded": {0: True}}, "the second scene is not complete"
    standings, _ = again.reveal()
    assert [(s.name, s.success.mean, s.success.n) for s in standings] == [("grounded", 1.0, 1), ("raw", 0.0, 1)]


def test_a_clear_answer_is_noticed(tmp_path: Path):
    session = BlindSession(tmp_path / "s.jsonl", POLICIES, scenes=20)
    while not session.decided():
        turn = session.next
        session.record(turn, turn.policy == "grounded")
    assert 5 <= session.next.scene < 15


def test_mistakes(tmp_path: Path):
    with pytest.raises(UserError, match="two or more"):
        BlindSession(tmp_path / "s.jsonl", {"raw": "x"})
    BlindSession(tmp_path / "s.jsonl", POLICIES)
    with pytest.raises(UserError, match="raw, grounded"):
        BlindSession(tmp_path / "s.jsonl", {"raw": "x", "other": "y"})
    with pytest.raises(UserError, match="no scene"):
        BlindSession(tmp_path / "s.jsonl").reveal()


def test_the_command_drives_asks_and_tells_at_the_end(tmp_path: Path):
    driven = tmp_path / "driven.txt"
    script = f"import sys; open({str(driven)!r}, 'a').write(sys.argv[1] + chr(10)); print(sys.argv[1])"
    command = f'{sys.executable} -c "{script}" {{policy}}'
    answers = "\ny clean grasp\n\nagain\n\nn\n\ny\n\nn\n"
    shown = CliRunner().invoke(app, ["blind", str(tmp_path / "s.jsonl"), "raw=runs/raw", "grounded=runs/grounded", "--scenes", "2",
                                     "--drive", command], input=answers)
    assert shown.exit_code == 0, shown.output
    asked = shown.output[: shown.output.rindex("turn 2")]
    assert "raw" not in asked and "grounded" not in asked
    assert len(driven.read_text().splitlines()) == 5, "one was repeated"
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()[1:]]
    assert [row["success"] for row in rows] == [True, False, True, False] and rows[0]["note"] == "clean grasp"
    assert "grounded" in shown.output[shown.output.rindex("turn 2") :]
