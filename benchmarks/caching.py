"""Epochs after the perception cache against epochs that compute perception anew, per front-end."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio, cpu_seconds
from vla.recipe import load_recipe
from vla.train.display import Display
from vla.train.loop import Trainer
from vla.train.run import Run

PRESETS = ("raw", "grounded")
ROUNDS = {True: 6, False: 3}


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    found: list[Measured | Ratio] = []
    for preset in PRESETS:
        times = {cached: steps(preset, data, scratch, cached) for cached in (True, False)}
        found += [Measured("caching", f"training step of {preset}, batch of 32", "cached" if cached else "computed anew", "cpu_ms", values)
                  for cached, values in times.items()]
        found.append(Ratio("caching", f"epochs of {preset}: cached against computed anew", times[False], times[True]))
    return found


def steps(preset: str, data: Path, scratch: Path, cached: bool) -> list[float]:
    """CPU milliseconds, by step."""
    recipe = load_recipe(preset, [f"data.root={data}", f"train.cache_features={str(cached).lower()}",
                                  f"data.cache={scratch / 'cache'}"])
    trainer = Trainer(recipe, Run(recipe, scratch / f"{preset}-{cached}"), Display(False))
    trainer._open_pictures()
    trainer.advance(0)
    return [1e3 * cpu_seconds(lambda step=step: trainer.advance(step)) for step in range(1, 1 + ROUNDS[cached])]
