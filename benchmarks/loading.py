"""Loading: training samples a second in shuffled order, two 128 px cameras and chunks of 16, in float32 as a network takes them; and
what the first epoch costs, the building of the store included. Both sides read the data set that LeRobot wrote, in one process.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from benchmarks.peer import Peer, pictures
from benchmarks.rounds import Measured, Ratio, cpu_seconds
from perception.percept import raw
from vla.data import Demonstrations
from vla.recipe import load_recipe

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
    for store in ("raw", "jpeg"):
        builds, rates, size = ours(root, store, scratch / f"cache-{store}")
        found.append(Measured("loading", WHAT, f"swapvla, {store} store", "samples_per_cpu_second", rates))
        found.append(Measured("loading", "building the store", f"swapvla, {store} store", "frames_per_cpu_second", builds))
        found.append(Measured("loading", "size of the store", f"swapvla, {store} store", "bytes_per_frame", [size]))
        if told is not None:
            epoch = [1 / build + 1 / rate for build in builds for rate in rates[:1]]
            found += [Ratio("loading", f"{WHAT}: {store} store against lerobot", rates, theirs),
                      Ratio("loading", f"first epoch, store included: {store} store against lerobot (less is better)", epoch,
                            [1 / rate for rate in theirs])]
    return found


def ours(root: Path, store: str, cache: Path) -> tuple[list[float], list[float], float]:
    """Frames per CPU second of building the store, by build; samples per CPU second, by round; bytes per frame."""
    known = [] if (root / "meta/robot_spec.json").exists() else ["data.action_mode=delta"]
    recipe = load_recipe("toy", [f"data.root={root}", "horizon=16", f"train.batch_size={BATCH}", f"data.store={store}",
                                 f"data.cache={cache}", "data.workers=1", "data.validation=0", *known])
    demonstrations = Demonstrations(recipe)
    builds = []
    for _ in range(3):
        shutil.rmtree(cache, ignore_errors=True)
        builds.append(len(demonstrations.actions) / cpu_seconds(lambda: demonstrations.open_frames(lambda items, _: items)))
    frames = demonstrations.open_frames(lambda items, _: items)
    rates, step, began = [], 0, time.perf_counter()

    def batch() -> None:
        index = demonstrations.order(step)
        raw(frames.add_to(demonstrations.columns(index, "cpu").batch, index))

    batch()
    while time.perf_counter() - began < SECONDS:
        seconds = 0.0
        for _ in range(4):
            step += 1
            seconds += cpu_seconds(batch)
        rates.append(4 * BATCH / seconds)
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / len(demonstrations.actions)
    return builds, rates, size
