"""Loading: training samples a second in shuffled order, two 128 px cameras and chunks of 16, in float32 as a network takes them; and
what the first epoch costs, the building of the store included. Both sides read the data set that LeRobot wrote, in one process.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.peer import Peer, pictures
from benchmarks.rounds import Measured, Ratio, cpu_seconds
from perception.percept import raw
from vla.data import Demonstrations
from vla.recipe import load_recipe
from vla.store import frame_bytes

CHUNK, BATCH, SECONDS = 16, 32, 8
WHAT = "samples a second"


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    root = scratch / "lerobot-libsvtav1"
    if not root.exists():
        pictures(data, episodes, scratch / "frames.npz")
        if peer.ask("record", scratch / "frames.npz", root, "libsvtav1", 1) is None:
            root = data
    told = peer.ask("load", root, SECONDS)
    found: list[Measured | Ratio] = []
    if told is not None:
        theirs = told["samples_per_cpu_second"]
        found.append(Measured("loading", WHAT, "lerobot, torchcodec", "samples_per_cpu_second", theirs))
    for store in ("raw", "jpeg", "stream"):
        side = f"swapvla, {store}"
        run = Ours(root, store, scratch / f"cache-{store}")
        builds = run.builds()
        rates = run.rates()
        found.append(Measured("loading", WHAT, side, "samples_per_cpu_second", rates))
        if builds:
            found.append(Measured("loading", "building the store", side, "frames_per_cpu_second", builds))
            found.append(Measured("loading", "size of the store", side, "bytes_per_frame", [run.size / run.frames]))
        if told is not None:
            epoch = [(1 / np.median(builds) if builds else 0) + 1 / rate for rate in rates]
            found += [Ratio("loading", f"{WHAT}: {store} against lerobot", rates, theirs),
                      Ratio("loading", f"first epoch, store included: {store} against lerobot (less is better)", epoch,
                            [1 / rate for rate in theirs])]
        if store == "raw":
            found.append(Measured("loading", "memory after 50 epochs against 2", side, "ratio", [1 / run.epochs(2) * run.epochs(50)]))
    return found


class Ours:
    """This project's side: batches as training takes them."""

    def __init__(self, root: Path, store: str, cache: Path) -> None:
        self.store, self.cache = store, cache
        known = [] if (root / "meta/robot_spec.json").exists() else ["data.action_mode=delta"]
        overrides = [f"data.root={root}", "horizon=16", f"train.batch_size={BATCH}", f"data.store={store}", f"data.cache={cache}",
                     "data.workers=1", "data.validation=0", *known]
        self.data = Demonstrations(load_recipe("toy", overrides))
        self.frames = len(self.data.actions)
        if store == "stream":  # a tenth of the data in memory
            views = self.data.sources[0].views
            size = self.frames * frame_bytes(views, depth=True) / 10 / 1e9
            self.data = Demonstrations(load_recipe("toy", [*overrides, f"data.stream_gb={size}"]))
        self.step = 0

    def builds(self) -> list[float]:
        """Frames per CPU second of making the store, by round; none for a stream."""
        found = []
        for _ in range(0 if self.store == "stream" else 3):
            shutil.rmtree(self.cache, ignore_errors=True)
            found.append(self.frames / cpu_seconds(lambda: self.data.open_frames(lambda items, _: items)))
        self.pictures = self.data.open_frames(lambda items, _: items)
        return found

    def rates(self) -> list[float]:
        """Samples per CPU second, by round of four batches."""
        self.batch()
        found, began = [], time.perf_counter()
        while time.perf_counter() - began < SECONDS or len(found) < 3:
            found.append(4 * BATCH / sum(cpu_seconds(self.batch) for _ in range(4)))
        return found

    def epochs(self, count: int) -> float:
        """Megabytes that the process holds after so many."""
        for _ in range(count * self.frames // BATCH):
            self.batch()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def batch(self) -> None:
        self.step += 1
        index = self.data.order(self.step)
        if self.data.foresight:
            self.pictures.expect(self.data.order(self.step + self.data.foresight))
        raw(self.pictures.add_to(self.data.columns(index, "cpu").batch, index))

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.cache.rglob("*") if path.is_file())
