"""Host memory: over fifty epochs, and while a data set streams that is many times what the stream may hold."""

from __future__ import annotations

import gc
from pathlib import Path

from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio
from robot_io.dataset import Dataset
from vla.recipe import load_recipe
from vla.train.display import Display
from vla.train.loop import Trainer
from vla.train.run import Run

EPOCHS, WARM = 50, 2
TIMES = 10


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    return [*fifty_epochs(data, scratch), *streaming(data, scratch)]


def fifty_epochs(data: Path, scratch: Path) -> list[Measured | Ratio]:
    """`raw`, cached, one layer deep, that it may not take an hour."""
    trainer = opened(data, scratch, "backbone.layers=1", "backbone.weights=null", "train.batch_size=64")
    length = max(1, len(trainer.demonstrations.training) // 64)
    after = []
    for step in range(EPOCHS * length):
        trainer.advance(step)
        if (step + 1) % length == 0:
            after.append(resident_mb())
    early, late = after[WARM - 1 : WARM + 4], after[-5:]
    return [Measured("memory", "resident after epochs 2 to 6", "swapvla", "mb", early),
            Measured("memory", f"resident after epochs {EPOCHS - 4} to {EPOCHS}", "swapvla", "mb", late),
            Ratio("memory", f"resident after {EPOCHS} epochs against after 2 (1 is flat)", late, early)]


def streaming(data: Path, scratch: Path) -> list[Measured | Ratio]:
    """An epoch of pictures in a tenth of the memory that they would fill, or in the least that can be streamed in; nothing is trained."""
    dataset = Dataset(data)
    frame = 2 * 3 * 128 * 128
    decoded, least = frame * len(dataset.column("action")), 3 * max(episode.length for episode in dataset.episodes) * frame * 7 / 3
    allowed = max(decoded / TIMES, 1.01 * least)  # depth counts there, as it might be asked for
    trainer = opened(data, scratch, "train.cache_features=false", "data.store=stream", f"data.stream_gb={allowed / 1e9}")
    before, peak = resident_mb(), 0.0
    for step in range(len(trainer.demonstrations.training) // trainer.recipe.train.batch_size):
        trainer.state.step = step
        trainer.samples(trainer.demonstrations.order(step))
        peak = max(peak, resident_mb() - before)
    return [Measured("memory", "pictures, decoded", "swapvla", "mb", [decoded / 1e6]),
            Measured("memory", "growth while an epoch of them streams", "swapvla", "mb", [peak]),
            Ratio("memory", "pictures, decoded: against the memory allowed for them", [decoded], [allowed])]


def opened(data: Path, scratch: Path, *more: str) -> Trainer:
    recipe = load_recipe("raw", [f"data.root={data}", f"data.cache={scratch / 'cache'}", *more])
    trainer = Trainer(recipe, Run(recipe, scratch / f"memory-{recipe.hash}"), Display(False))
    trainer._open_pictures()
    return trainer


def resident_mb() -> float:
    gc.collect()
    return float(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
