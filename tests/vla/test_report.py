"""`vla.report`: the page says what the trials say, stands alone, and the films show failures too."""

import json
import re

import pytest

from vla.evaluate.evaluate import evaluate
from vla.evaluate.film import read_film
from vla.files import write_json
from vla.report import Story, summary, write_report

ROBOT = {"kind": "toy_robot:ToyRobot"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials")
    options = {"workers": 2, "progress": False}
    return {
        "trained": evaluate("toy_robot:Expert", ROBOT, range(6), out=folder / "a.jsonl", films=range(4), **options),
        "untrained": evaluate("toy_robot:Drunk", ROBOT, range(6), out=folder / "b.jsonl", films=range(4), **options),
    }


def test_the_page_stands_alone_and_says_what_happened(results, tmp_path):
    story = Story(
        title="Pick <up>", subtitle="toy", evaluations=dict(reversed(results.items())), rate_hz=10.0,
        curves={"training": [(0, 1.0), (10, 0.5)], "validation": [(10, 0.7)]}, timings={"train": 190.0, "evaluate": 12.0},
        commands=["vla demo"], recipe="horizon: 8",
    )
    write_report(tmp_path, story)
    page = (tmp_path / "report.html").read_text()
    assert "Pick &lt;up&gt;" in page and "3 min 10 s" in page and "horizon: 8" in page
    assert not re.findall(r'(?:src|href)="(?!data:|rollouts\.mp4|#)', page), "nothing is fetched from elsewhere"
    untrained = results["untrained"]
    assert f"{100 * untrained.success.mean:.1f} %" in page
    filmed = [trial for trial in untrained.trials if trial.seed < 4]
    assert page.count("data:image/jpeg") == 4 and any(not trial.success for trial in filmed)
    assert page.count('class="bad"') == sum(not trial.success for trial in filmed)
    assert {trial.instruction for trial in filmed} <= set(re.findall(r"“(.*?)”", page))
    wall = read_film(tmp_path / "rollouts.mp4")
    assert len(wall) == max(trial.steps for trial in filmed) + 1 + 15


def test_summary_has_the_promised_keys(results, tmp_path):
    evaluations = {"trained, clean": results["trained"], "untrained": results["untrained"], "served": results["trained"]}
    numbers = summary(evaluations, main="trained, clean", train_seconds=3.0, total_seconds=9.0)
    write_json(tmp_path / "summary.json", numbers)
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read["by_scene"] == {"trained, clean": read["success"]}
    for key in ("success", "wrong_object", "untrained", "served"):
        assert read[key].keys() == {"mean", "low", "high", "n"}
        assert 0 <= read[key]["low"] <= read[key]["mean"] <= read[key]["high"] <= 1
    assert read["success"]["mean"] == 1.0 and 0 < read["latency_ms"]["p50"] <= read["latency_ms"]["p99"]
    assert (read["train_seconds"], read["total_seconds"]) == (3.0, 9.0)
