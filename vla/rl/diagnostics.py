"""Is the critic to be believed? Numbers on held-out episodes, a figure, and one sentence of advice on when to stop.

On frames that no update saw, with the Monte-Carlo return of what was recorded as the truth:

    val_bias         mean Q(s, a) − return: above 0, the critic promises more than the data kept
    val_rank         Spearman correlation of Q(s, a) and the return: does it know good from bad
    val_calibration  mean distance of Q from the mean return among frames with such a Q, in ten bins
    val_over         mean Q(s, π(s)) − return: what the policy promises itself over what was earned. Some of it may be improvement,
                     but where it grows while calibration gets worse, the policy exploits errors of the critic
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import spearmanr

from vla.rl.contexts import in_parts, rows

if TYPE_CHECKING:
    from vla.rl.loop import Trainer

BINS, AT_ONCE, MAX_FRAMES = 10, 256, 1024
WORSE = 1.5
"""How many times the best calibration error a later one may be before stopping is advised."""


@dataclass(frozen=True)
class Reading:
    """What the critic says of some frames. `done` values what was recorded, `policy` what the policy would do."""

    done: Float[np.ndarray, " n"]
    policy: Float[np.ndarray, " n"]
    mc: Float[np.ndarray, " n"]
    success: Bool[np.ndarray, " n"]
    source: Int[np.ndarray, " n"]
    sources: tuple[str, ...]

    def numbers(self) -> dict[str, float]:
        varied = np.ptp(self.done) > 0 and np.ptp(self.mc) > 0
        return {"val_bias": float((self.done - self.mc).mean()), "val_over": float((self.policy - self.mc).mean()),
                "val_rank": float(spearmanr(self.done, self.mc).statistic) if varied else 0.0,
                "val_calibration": calibration_error(self.done, self.mc), "val_mc": float(self.mc.mean())}

    def by_source(self) -> dict[str, dict[str, float]]:
        """The same numbers of each data set, of its successes and failures apart."""
        found = {}
        for number, name in enumerate(self.sources):
            for outcome in (True, False):
                own = (self.source == number) & (self.success == outcome)
                if own.any():
                    part = Reading(self.done[own], self.policy[own], self.mc[own], self.success[own], self.source[own], self.sources)
                    found[f"{name}, {'successes' if outcome else 'failures'}"] = part.numbers()
        return found


@torch.no_grad()
def read(trainer: Trainer) -> Reading:
    """Value the held-out frames, evenly thinned to a bounded number, always with the same draws."""
    data, algorithm = trainer.data, trainer.algorithm
    index = data.validation[torch.linspace(0, len(data.validation) - 1, min(len(data.validation), MAX_FRAMES)).long()]
    trainer.learner.eval()

    def values(part: slice) -> torch.Tensor:
        chosen = index[part]
        context = rows(trainer.contexts, chosen)
        seen = context if trainer.look is None else trainer.look(chosen)
        last = data.valid[chosen].sum(1, keepdim=True) - 1
        done = algorithm.critic(context, data.actions[chosen][:, None, : data.chunk]).amin(0)[:, 0].gather(1, last)[:, 0]
        policy = algorithm.critic(context, algorithm.act(context, seen)[:, :, : data.chunk]).amin(0)[:, 0, -1]
        return torch.stack([done, policy], 1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = in_parts(len(index), AT_ONCE, values).numpy()
    return Reading(found[:, 0], found[:, 1], *(column[index].numpy() for column in (data.mc, data.success, data.source)), data.sources)


def measure(trainer: Trainer) -> dict[str, float]:
    return read(trainer).numbers()


def calibration(said: Float[np.ndarray, " n"], earned: Float[np.ndarray, " n"]) -> list[tuple[float, float, int]]:
    """(mean value, mean return, frames) of ten groups of equal size, by what the critic said."""
    groups = np.array_split(np.argsort(said, kind="stable"), min(BINS, len(said)))
    return [(float(said[group].mean()), float(earned[group].mean()), len(group)) for group in groups]


def calibration_error(said: Float[np.ndarray, " n"], earned: Float[np.ndarray, " n"]) -> float:
    return float(sum(count * abs(value - truth) for value, truth, count in calibration(said, earned)) / len(said))


def advice(rows_of_run: Sequence[dict[str, Any]]) -> str:
    """When this run should have stopped, from its log."""
    measured = [row for row in rows_of_run if "val_calibration" in row]
    if not measured:
        return "Nothing was held out, so nothing can be said: set data.validation."
    best = min(measured, key=lambda row: row["val_calibration"])
    last = measured[-1]
    if last["val_rank"] < 0.2:
        return (f"The critic does not know good from bad (rank correlation {last['val_rank']:.2f} on held-out episodes): do not act by it. "
                "More episodes, failures among them, or a longer chunk may help.")
    if best is not last and last["val_calibration"] > WORSE * best["val_calibration"] and last["val_over"] > best["val_over"]:
        return (f"Stop at about step {best['step']}: since then the calibration error rose from {best['val_calibration']:.3f} to "
                f"{last['val_calibration']:.3f}, while the policy promises itself {last['val_over']:+.3f} over what was earned.")
    if best is last:
        return f"The critic was still improving at step {last['step']} (calibration error {last['val_calibration']:.3f}): longer may be better."
    return (f"No sign of over-training by step {last['step']}: calibration error {last['val_calibration']:.3f}, at best "
            f"{best['val_calibration']:.3f} at step {best['step']}.")


def read_log(run: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def draw(reading: Reading, log: Sequence[dict[str, Any]], path: Path | str) -> None:
    """Q against return, calibration, and what became of both while learning."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    scatter, reliable, course = figure.subplots(1, 3)
    for outcome, colour, label in ((True, "#2ea043", "successes"), (False, "#cf3636", "failures")):
        own = reading.success == outcome
        scatter.plot(reading.mc[own], reading.done[own], ".", color=colour, alpha=0.35, markersize=4, label=label)
    scatter.set(xlabel="return of the episode from here", ylabel="Q(s, a)", title="held-out frames")
    scatter.legend(frameon=False)
    said, earned, _ = zip(*calibration(reading.done, reading.mc), strict=True)
    reliable.plot(said, earned, "o-", color="#1f6feb")
    reliable.set(xlabel="Q(s, a), ten groups", ylabel="mean return of the group", title="calibration")
    for axes in (scatter, reliable):
        ends = [min(reading.done.min(), reading.mc.min()), max(reading.done.max(), reading.mc.max())]
        axes.plot(ends, ends, ":", color="grey", linewidth=1)
    measured = [row for row in log if "val_calibration" in row]
    for name, label in (("val_calibration", "calibration error"), ("val_bias", "Q(s, a) − return"), ("val_over", "Q(s, π(s)) − return")):
        course.plot([row["step"] for row in measured], [row[name] for row in measured], label=label)
    course.axhline(0, color="grey", linewidth=0.5)
    course.set(xlabel="step", title="while learning")
    course.legend(frameon=False, fontsize=8)
    for axes in (scatter, reliable, course):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
