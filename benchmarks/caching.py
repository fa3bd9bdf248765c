"""The perception cache, per front-end: epochs that read it against epochs that compute perception anew, and what an ablation's second cell pays.

The frozen part alone (front-ends, and the backbone's frozen eye, which a cell of ours caches too) and the whole training step, of which
the rest is what is trained: it costs the same either way and bounds what any cache can gain.
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio, cpu_seconds
from perception.percept import perceive
from vla.recipe import load_recipe
from vla.train.display import Display
from vla.train.loop import Trainer
from vla.train.run import Run

PRESETS = ("raw", "masked", "grounded", "geometry", "fused", "told", "dp3", "lifted")
STEPS = {True: 6, False: 3}
HEADS = ("diffusion", "tokens")


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    return [*(row for preset in PRESETS for row in epochs(preset, data, scratch)), *second_cell(data, scratch)]


def epochs(preset: str, data: Path, scratch: Path) -> list[Measured | Ratio]:
    """CPU milliseconds for a batch of 32."""
    found: list[Measured | Ratio] = []
    steps, frozen = {}, {}
    for cached in (True, False):
        trainer = opened(preset, data, scratch, cached)
        trainer.advance(0)
        steps[cached] = [1e3 * cpu_seconds(lambda step=step, trainer=trainer: trainer.advance(step)) for step in range(1, 1 + STEPS[cached])]
        frozen[cached] = [1e3 * cpu_seconds(lambda step=step, trainer=trainer: perceived(trainer, step)) for step in range(STEPS[cached])]
    for what, times in ((f"training step of {preset}, batch of 32", steps), (f"frozen perception of {preset}, batch of 32", frozen)):
        found += [Measured("caching", what, "cached" if cached else "computed anew", "cpu_ms", values) for cached, values in times.items()]
    found += [Ratio("caching", f"epochs of {preset}: cached against computed anew", steps[False], steps[True]),
              Ratio("caching", f"frozen perception of {preset}: cached against computed anew", frozen[False], frozen[True])]
    return found


@torch.no_grad()
def perceived(trainer: Trainer, step: int) -> None:
    """What the frozen part makes of the frames of a step."""
    index, policy = trainer.demonstrations.order(step), trainer.policy
    if trainer.features is not None:
        trainer.features.percept(index, policy.device)
        return
    batch = trainer.frames.add_to(trainer.demonstrations.columns(index, policy.device).batch, index)
    percept = perceive(policy.frozen_front_ends, batch)
    if percept.images is not None and policy.plain_backbone.vision and policy.recipe.tuning.vision == "frozen":
        policy.backbone.see(percept)


def second_cell(data: Path, scratch: Path) -> list[Measured | Ratio]:
    """Two heads behind the front-end of `grounded`: CPU seconds until a cell's first step, and of its steps."""
    found, before = [], {}
    for head in HEADS:
        trainers = []
        before[head] = [cpu_seconds(lambda head=head, trainers=trainers: trainers.append(
            opened("grounded", data, scratch, True, f"head.kind={head}", cache="two-cells")))]
        steps = [1e3 * cpu_seconds(lambda step=step, trainers=trainers: trainers[0].advance(step)) for step in range(STEPS[True])]
        which = "first" if head == HEADS[0] else "second"
        found += [Measured("caching", f"{which} cell (grounded, {head}): until its first step", "swapvla", "cpu_s", before[head]),
                  Measured("caching", f"{which} cell (grounded, {head}): a step", "swapvla", "cpu_ms", steps[1:])]
    first, second = (before[head] for head in HEADS)
    return [*found, Ratio("caching", "until the first step: second cell against first", first, second)]


def opened(preset: str, data: Path, scratch: Path, cached: bool, *more: str, cache: str = "cache") -> Trainer:
    recipe = load_recipe(preset, [f"data.root={data}", f"train.cache_features={str(cached).lower()}", f"data.cache={scratch / cache}", *more])
    trainer = Trainer(recipe, Run(recipe, scratch / f"{recipe.hash}-{cached}"), Display(False))
    trainer._open_pictures()
    return trainer
