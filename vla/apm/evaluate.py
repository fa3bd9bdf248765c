"""How good a text-to-action model is. What could flatter it is never shown alone: a constant "walk" is executable and reaches nothing.

Reported together, always: goal success; executability (the share of its actions that could be carried out); how often verb, object and whole
action are the expert's on the expert's own way; the entropy of what it says; and the same of the majority class, the action that demonstrations
show most often, said all the time. Intervals: Wilson for success, bootstrap over episodes for the rest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

from robot_io.household.catalogue import LAYOUTS, TRAINING, UNSEEN
from robot_io.household.skills import Skill
from robot_io.household.world import World
from vla.apm.episode import Episode, demonstrate
from vla.apm.imitate import majority
from vla.apm.rollout import Act, acting, always, roll_out
from vla.apm.run import STAGES, finished, load, read_settings
from vla.apm.settings import Summary
from vla.apm.summaries import Summariser, summariser
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import Rate, mean_of, rate_of
from vla.results import Row, load_rows, save_rows

AT_ONCE, DRAWN = 64, 0  # episodes side by side; the seed of what is drawn

Says = Literal["likeliest", "drawn"]


class Report:
    """What came of the episodes, one entry per episode in every list."""

    def __init__(self) -> None:
        self.layouts: list[int] = []
        self.reached: list[bool] = []
        self.executed: list[float] = []
        self.imitated: dict[str, list[float]] = {"exact": [], "object": [], "verb": []}
        self.said: list[list[Skill]] = []

    def metrics(self, which: Sequence[int] | None = None) -> dict[str, Rate]:
        """Every metric, of the episodes in these layouts."""
        chosen = [i for i, layout in enumerate(self.layouts) if which is None or layout in which]

        def share(values: Sequence[float]) -> Rate:
            return mean_of([100 * values[i] for i in chosen])

        bits = entropy([skill for i in chosen for skill in self.said[i]])
        return {
            "success": rate_of([self.reached[i] for i in chosen]), "executability_percent": share(self.executed),
            **{f"{name}_percent": share(values) for name, values in self.imitated.items()},
            "entropy_bits": Rate(bits, bits, bits, len(chosen)),
        }


def entropy(said: Sequence[Skill]) -> float:
    """Of the strings that are said, in bits; 0 for a model that always says the same."""
    counts = Counter(said)
    return 0.0 - sum(n / counts.total() * math.log2(n / counts.total()) for n in counts.values())


def examine(act: Act, summarise: Summariser, episodes: int, split: str = "test") -> Report:
    """On the first scenes of a split, the seven layouts in turn."""
    report = Report()
    scenes = [(seed % len(LAYOUTS), seed) for seed in seeds(split, episodes)]
    for start in range(0, len(scenes), AT_ONCE):
        part = scenes[start:start + AT_ONCE]
        own = [Episode(World(layout, seed)) for layout, seed in part]
        roll_out(own, summarise, act)
        expert = [demonstrate(layout, seed) for layout, seed in part]
        shown = [step for steps in expert for step in steps]
        words, vectors = summarise([episode for episode, _ in shown])
        prompts = [episode.prompt(text) for (episode, _), text in zip(shown, words, strict=True)]
        answers = iter(zip(act(prompts, vectors, 0), (skill for _, skill in shown), strict=True))
        for (layout, _), episode, steps in zip(part, own, expert, strict=True):
            pairs = [next(answers) for _ in steps]
            report.layouts.append(layout)
            report.reached.append(episode.reached)
            report.executed.append(sum(episode.executed) / len(episode.executed))
            report.said.append(episode.actions)
            same = {"exact": lambda a, b: a == b, "object": lambda a, b: a.object == b.object, "verb": lambda a, b: a.verb == b.verb}
            for name, alike in same.items():
                report.imitated[name].append(sum(alike(a, b) for a, b in pairs) / len(pairs))
    return report


def evaluate(folder: Path, stage: str, summary: Summary, captioner: str | None = None, episodes: int = 210, split: str = "test",
             draw: bool = False) -> Report:
    """A run's model, told of the scene as it was taught or otherwise.

    Args:
        draw: what it does is drawn, as in REINFORCE, instead of the likeliest. Where an action failed, nothing has changed but that the prompt
            says so, and the likeliest may be the same for ever.

    Raises:
        UserError: the stage is not finished, or no such summary or captioner.
    """
    told = summariser(summary, captioner or read_settings(folder).captioner)
    return examine(acting(load(folder, stage), DRAWN if draw else None), told, episodes, split)


def baseline(folder: Path, episodes: int = 210, split: str = "test") -> Report:
    """The majority class of the run's demonstrations."""
    return examine(always(majority(read_settings(folder).imitation.demonstrations)), summariser("none"), episodes, split)


def rows(report: Report, cell: dict[str, str], recipe: str, command: str) -> list[Row]:
    """Rows for `docs/results`: all layouts, those seen in training and the others, and each by itself."""
    groups: dict[str, list[int] | None] = {"all": None, "seen": list(TRAINING), "unseen": list(UNSEEN)}
    groups |= {str(i + 1): [i] for i in range(len(LAYOUTS))}
    return [{"cell": cell | {"layouts": name}, "metric": metric, **rate.to_dict(), "seeds": [], "recipe": recipe, "command": command}
            for name, which in groups.items() if which is None or set(which) & set(report.layouts)
            for metric, rate in report.metrics(which).items()]


def table(runs: Sequence[Path], stage: str, told: Sequence[Summary], captioner: str | None, episodes: int, split: str,
          says: Sequence[Says] = ("likeliest",)) -> list[Row]:
    """Rows of every run's stages with every summary, and of the majority class. What is in RUN/evaluations already is not done again.

    Args:
        stage: of `STAGES`, or `all` that are finished.
        told: for runs that were taught with words; others, and all if it is empty, are told of the scene as they were taught.
        says: what a model does of what it might.
    """
    command = " ".join(("vla apm evaluate", *(run.name for run in runs), *(f"--summary {summary}" for summary in told)))
    made: dict[str, list[Row]] = {}
    for run in runs:
        settings = read_settings(run)
        reader = Path(captioner or settings.captioner).stem
        stages = [name for name in STAGES if finished(run, name)] if stage == "all" else [stage]
        for name in stages or STAGES[:1]:
            for summary, way in product(told if told and settings.summary in ("oracle", "image") else [settings.summary], says):
                cell = {"taught": settings.summary, "stage": name, "told": f"image, by {reader}" if summary == "image" else summary, "says": way}
                kept = f"{name}-{summary}" + (f"-{reader}" if summary == "image" else "") + ("-drawn" if way == "drawn" else "")
                measure = partial(evaluate, run, name, summary, captioner, episodes, split, way == "drawn")
                made[f"{run} {kept}"] = _kept(run, f"{kept}-{split}-{episodes}", measure, cell, settings.hash, command)
        cell = {"taught": "–", "stage": "majority class", "told": "–", "says": "–"}
        made["majority"] = _kept(run, f"majority-{split}-{episodes}", partial(baseline, run, episodes, split), cell, settings.hash, command)
    made["majority"] = made.pop("majority")  # last
    return [row | {"command": command} for part in made.values() for row in part]


def _kept(run: Path, name: str, measure: Callable[[], Report], cell: dict[str, str], recipe: str, command: str) -> list[Row]:
    path = run / "evaluations" / f"{name}.json"
    if not path.exists():
        save_rows(path, rows(measure(), cell, recipe, command))
    # What was measured before cells said how a model `says` lacks it.
    return [row | {"cell": cell | {"layouts": row["cell"]["layouts"]}} for row in load_rows(path)]
