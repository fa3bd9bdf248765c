"""`vla`: thin commands, errors in one block, JSON alone on stdout, and `list` without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla.cli import main

ROOT = Path(__file__).parents[2]
WITHOUT_TORCH = """
import sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "peft", "diffusers", "accelerate", "einops", "safetensors", "matplotlib", "jinja2"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

if __name__ == "__main__":
    sys.meta_path.insert(0, Bare())
    from vla.cli import main
    main()
"""


@pytest.fixture
def vla(tmp_path, monkeypatch, capfd):
    """Runs a command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["vla", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capfd.readouterr()

    return run


def plain(block):
    """The text of an error block, its frame and line breaks removed."""
    return " ".join(block.replace("│", " ").split())


def without_torch(folder, *arguments):
    """The command line on a machine where only the `sim` extra is installed."""
    (folder / "bare.py").write_text(WITHOUT_TORCH)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "bare.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["collect", "train", "evaluate", "serve", "demo", "list", "look", "ablate", "benchmark", "compare",
                                     "distill", "trials", "blind", "quantize"])
def test_help_teaches_by_example(command, vla):
    code, shown, _ = vla(command, "--help")
    assert code == 0 and f"vla {command}" in shown.split("Examples:")[1] and "--json" in shown


def test_list_needs_no_torch(vla, tmp_path):
    cards = json.loads(without_torch(tmp_path, "list", "--json").stdout)
    assert {card["package"] for card in cards} == {"perception", "backbones", "heads", "robots"}
    assert {"tiny", "tokens", "diffusion", "tabletop"} <= {card["kind"] for card in cards}
    assert all({"kind", "paper", "needs", "provides"} <= card.keys() for card in cards)
    _, shown, _ = vla("list", "heads")
    assert "diffusion" in shown and "2303.04137" in shown and "tabletop" not in shown


def test_a_simulator_is_driven_without_torch(tmp_path):
    done = without_torch(tmp_path, "evaluate", "toy_robot:Expert", "robot.kind=toy_robot:ToyRobot", "--trials", "1", "--json")
    assert json.loads(done.stdout)["success"]["n"] == 1, done.stderr


def test_a_missing_extra_is_named(tmp_path):
    done = without_torch(tmp_path, "train", "toy")
    assert done.returncode == 2 and "pip install 'swapvla[train]'" in plain(done.stderr) and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments, message", [
    (["list", "hed"], "did you mean 'heads'"),
    (["evaluate", "no/policy"], "no such folder"),
    (["evaluate", "toy_robot:Expert", "robot.kind=toy_robot:ToyRobot", "robot.limt=3"], "did you mean 'limit'"),
    (["evaluate", "toy_robot:Expert", "limit=3"], "does not begin with 'robot.'"),
    (["evaluate", "toy_robot:Expert", "--split", "tset"], "did you mean 'test'"),
    (["serve", "no/policy", "--api-key-file", "no.key"], "no.key"),
])
def test_a_mistake_is_one_block_and_exit_code_two(arguments, message, vla, tmp_path):
    code, out, errors = vla(*arguments, "--json")
    assert code == 2 and out == "" and "Traceback" not in errors
    assert message in plain(errors)
    assert list(tmp_path.iterdir()) == [], "nothing may be left behind"


def test_collect_and_evaluate_print_one_json_line(vla, tmp_path):
    robot = "robot.kind=toy_robot:ToyRobot"
    _, out, _ = vla("collect", "data", robot, "--episodes", 2, "--workers", 1, "--json")
    assert json.loads(out) == {"root": "data", "episodes": 2, "failed_seeds": []}
    _, out, _ = vla("evaluate", "toy_robot:Expert", robot, "--trials", 2, "--workers", 1, "--films", 1, "--json")
    found = json.loads(out)
    assert found["success"] == {"mean": 1.0, "low": pytest.approx(0.342, abs=1e-3), "high": 1.0, "n": 2}
    rows = [json.loads(line) for line in (tmp_path / found["out"]).read_text().splitlines()]
    assert [row["seed"] for row in rows] == [20_000, 20_001]
    assert [path.name for path in tmp_path.rglob("*.mp4") if "films" in str(path)] == ["20000.mp4"]


def test_compare_gives_letters(vla, tmp_path):
    for name, successes in {"good": 20, "bad": 2}.items():
        rows = [json.dumps({"seed": seed, "success": seed < successes}) for seed in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    code, shown, _ = vla("compare", "bad=bad.jsonl", "good=good.jsonl", "--json")
    standings = json.loads(shown)["standings"]
    assert code == 0 and [(s["name"], s["letters"]) for s in standings] == [("good", "a"), ("bad", "b")]
    assert vla("compare", "bad.jsonl")[0] == 2
