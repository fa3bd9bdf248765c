"""What a run leaves for people: `report.html` in one file, `rollouts.mp4`, and `summary.json` for programs.

`write_report` only shows what it is given; it runs nothing. The page is `report.html` beside this file, a Jinja template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vla.evaluate.episode import Trial
from vla.evaluate.evaluate import EvaluationResult
from vla.evaluate.film import read_film, write_wall
from vla.evaluate.statistics import Rate, mean_of, rate_of
from vla.evaluate.trials import versions
from vla.figures import Curve, bar_svg, curves_svg, histogram_svg, strip_jpeg
from vla.files import write_text

STRIPS = 6
INSTRUCTIONS = 12


@dataclass(frozen=True)
class Story:
    """Everything a report tells.

    Attributes:
        evaluations: by the name shown in the table.
        told: the evaluation whose films and instructions are shown; the first if empty.
        curves: (step, loss) by name.
        timings: seconds by stage.
        commands: shell lines that make all of it again.
        recipe: YAML.
        rate_hz: the robot's control rate: the films' frames per second.
    """

    title: str
    subtitle: str
    evaluations: Mapping[str, EvaluationResult]
    rate_hz: float
    told: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()
    recipe: str = ""


def write_report(folder: Path | str, story: Story) -> None:
    """Write `report.html`, and `rollouts.mp4` if the evaluation that is told was filmed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    main = story.evaluations[story.told or next(iter(story.evaluations))]
    films = {trial.seed: read_film(main.films[trial.seed]) for trial in main.trials if trial.seed in main.films}
    shown = [trial for trial in main.trials if trial.seed in films]
    if shown:
        write_wall(folder / "rollouts.mp4", [films[t.seed] for t in shown], [t.instruction for t in shown],
                   [t.success for t in shown], story.rate_hz)
    write_text(folder / "report.html", _page(story, main, films, shown))


def summary(evaluations: Mapping[str, EvaluationResult], *, main: str, train_seconds: float,
            total_seconds: float) -> dict[str, Any]:
    """The numbers of a demo for `summary.json`; latency is that of the served policy, the network included."""
    trained, untrained, served = (evaluations[name] for name in (main, "untrained", "served"))
    p50, p99 = served.latency_ms(50, 99)
    return {
        "success": trained.success.to_dict(), "wrong_object": trained.wrong_object.to_dict(),
        "untrained": untrained.success.to_dict(), "served": served.success.to_dict(),
        "by_scene": {name: result.success.to_dict() for name, result in evaluations.items() if ", " in name},
        "latency_ms": {"p50": p50, "p99": p99},
        "train_seconds": train_seconds, "total_seconds": total_seconds,
    }


def _page(story: Story, main: EvaluationResult, films: Mapping[int, np.ndarray], shown: Sequence[Trial]) -> str:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    groups = _by_instruction(main.trials)
    return environment.get_template("report.html").render(
        title=story.title, subtitle=story.subtitle, commands=story.commands, timings=story.timings, versions=versions(),
        recipe=story.recipe, cards=_cards(story, main),
        rows=[_row(name, result) for name, result in story.evaluations.items()],
        by_instruction=groups[:INSTRUCTIONS] if len(groups) > 1 else [], other_instructions=len(groups[INSTRUCTIONS:]),
        figures=_figures(story), strips=[_strip(trial, films[trial.seed]) for trial in _pick(shown, STRIPS)],
    )


def _cards(story: Story, main: EvaluationResult) -> list[tuple[str, str]]:
    name = story.told or next(iter(story.evaluations))
    cards = [
        (_percent(main.success.mean), f"{name}: success in {main.success.n} trials, "
         f"{_percent(main.success.low)} to {_percent(main.success.high)}"),
        (_percent(main.wrong_object.mean), f"{name}: wrong object, {_percent(main.wrong_object.low)} to "
         f"{_percent(main.wrong_object.high)}"),
    ]
    if not np.isnan(main.cycle_seconds.mean):
        cards.append((f"{main.cycle_seconds.mean:.1f} s", "mean cycle time of the successful trials"))
    training = sum(seconds for stage, seconds in story.timings.items() if stage.startswith("train"))
    if training:
        cards.append((_duration(training), "training"))
    return cards


def _row(name: str, result: EvaluationResult) -> dict[str, Any]:
    jerks = [trial.jerk for trial in result.trials if trial.jerk is not None]
    return {
        "name": name, **_shares(result.success, result.wrong_object),
        "cycle": _measured(result.cycle_seconds), "latency": "{:.1f} / {:.1f}".format(*result.latency_ms(50, 99)),
        "jerk": f"{mean_of(jerks).mean:.3f}" if jerks else "–",
    }


def _shares(success: Rate, wrong: Rate) -> dict[str, Any]:
    return {"bar": Markup(bar_svg(success)), "success": interval(success), "wrong_object": interval(wrong), "n": success.n}


def _by_instruction(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Success for each thing asked, the most frequent first: a policy that ignores its instruction shows here."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.instruction, []).append(trial)
    return [
        {"name": instruction, **_shares(rate_of([t.success for t in group]), rate_of([t.wrong_object for t in group]))}
        for instruction, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _figures(story: Story) -> list[dict[str, Any]]:
    figures = []
    if story.curves:
        figures.append({"svg": Markup(curves_svg(story.curves)), "caption": "Loss while training; validation on demonstrations "
                        "held out."})
    samples = {name: result.infer_ms for name, result in story.evaluations.items() if len(result.infer_ms)}
    if samples:
        figures.append({"svg": Markup(histogram_svg(samples, "time of one prediction, ms")),
                        "caption": "From observation to action chunk, as the robot waits for it."})
    return figures


def _pick(trials: Sequence[Trial], n: int) -> list[Trial]:
    """Up to n trials, up to half of them failures, in order of seed."""
    failures = [trial for trial in trials if not trial.success]
    successes = [trial for trial in trials if trial.success]
    kept = failures[:max(n // 2, n - len(successes))]
    return sorted(kept + successes[:n - len(kept)], key=lambda trial: trial.seed)


def _strip(trial: Trial, film: np.ndarray) -> dict[str, Any]:
    outcome = "success" if trial.success else "failure"
    return {
        "instruction": trial.instruction, "seed": trial.seed, "seconds": f"{trial.seconds:.1f}", "success": trial.success,
        "outcome": outcome + (", wrong object" if trial.wrong_object else ""), "jpeg": strip_jpeg(film),
    }


def interval(rate: Rate) -> Markup:
    return Markup("{} <small>[{:.1f}, {:.1f}]</small>").format(_percent(rate.mean), 100 * rate.low, 100 * rate.high)


def _measured(value: Rate) -> str | Markup:
    if np.isnan(value.mean):
        return "–"
    return Markup("{:.1f} <small>[{:.1f}, {:.1f}]</small>").format(value.mean, value.low, value.high)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
