"""What LeRobot itself does with a data set. Runs in an environment that has `lerobot==0.4.4` (see tests/interop/check_lerobot.py);
prints one line of JSON.

    python side.py load ROOT SECONDS            samples per second in random order, chunks of 16
    python side.py record FRAMES.npz OUT CODEC ROUNDS   frames per second
    python side.py train KIND ROOT OUT CPU_SECONDS,…   ACT or Diffusion Policy, saved as OUT-CPU_SECONDS after so much CPU time each

Training follows `lerobot-train` (its factories, processors, optimiser settings, batch of 8, no workers); what differs from its defaults is
what 128-pixel pictures, 30-step episodes and minutes of one core ask for, and stands in `CONFIGS`.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

warnings.filterwarnings("ignore")

CHUNK = 16
BATCH = 8  # lerobot-train's default
WARMUP = 50  # steps; Diffusion Policy's 500 would be most of what minutes allow
ANNEALING = 0.2
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    # Nothing can be downloaded here, so no ImageNet weights; a chunk of 100 would drive a whole episode blindly; and at ACT's 1e-5, meant
    # for 100 000 steps, nothing would be learned in a thousand.
    "act": ("act", {"pretrained_backbone_weights": None, "chunk_size": 8, "n_action_steps": 4, "optimizer_lr": 1e-4,
                    "optimizer_lr_backbone": 1e-4}),
    # DDIM in 10 steps instead of DDPM in 100, or a trial would take minutes.
    "diffusion": ("diffusion", {"crop_shape": (116, 116), "noise_scheduler_type": "DDIM", "num_inference_steps": 10}),
    "diffusion, small": ("diffusion", {"crop_shape": (116, 116), "noise_scheduler_type": "DDIM", "num_inference_steps": 10,
                                       "down_dims": (128, 256, 512)}),
}


def open_data(root: str, **options: Any) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/benchmark", root=root, video_backend="torchcodec", **options)


def load(root: str, seconds: str) -> dict[str, Any]:
    """One process, as our side: batches of 32 in shuffled order through torch's own DataLoader."""
    data = open_data(root)
    data = open_data(root, delta_timestamps={"action": [i / data.fps for i in range(CHUNK)]})
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, num_workers=0)
    next(iter(loader))
    rates, began = [], time.perf_counter()
    while time.perf_counter() - began < float(seconds):
        last, cpu, count = time.perf_counter(), time.process_time(), 0
        for number, batch in enumerate(loader):
            count += len(batch["index"])
            if number == 3:
                break
        rates.append((count / (time.perf_counter() - last), count / (time.process_time() - cpu)))
    return {"samples_per_cpu_second": [cpu for _, cpu in rates], "samples_per_second": [wall for wall, _ in rates], "frames": len(data)}


def record(frames: str, out: str, codec: str, rounds: str) -> dict[str, Any]:
    """The frames of an .npz (`rgb-NAME [T, H, W, 3]`, `state`, `action`, `bounds [E, 2]`) written as a LeRobotDataset, each round anew."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    with np.load(frames) as stored:
        arrays = {name: stored[name] for name in stored.files}
    cameras = [name.removeprefix("rgb-") for name in arrays if name.startswith("rgb-")]
    features = {f"observation.images.{name}": {"dtype": "video", "shape": arrays[f"rgb-{name}"].shape[1:],
                                               "names": ["height", "width", "channels"]} for name in cameras}
    for key, name in (("observation.state", "state"), ("action", "action")):
        width = arrays[name].shape[1]
        features[key] = {"dtype": "float32", "shape": (width,), "names": [f"{name}_{i}" for i in range(width)]}
    rates = []
    for _ in range(int(rounds)):
        shutil.rmtree(out, ignore_errors=True)
        cpu = cpu_seconds()
        data = LeRobotDataset.create("local/benchmark", fps=10, features=features, root=out, vcodec=codec)
        for start, stop in arrays["bounds"]:
            for frame in range(start, stop):
                data.add_frame({**{f"observation.images.{name}": arrays[f"rgb-{name}"][frame] for name in cameras}, "task": "pick",
                                "observation.state": arrays["state"][frame], "action": arrays["action"][frame]})
            data.save_episode()
        data.finalize()
        rates.append(int(arrays["bounds"][-1, 1]) / (cpu_seconds() - cpu))
    return {"frames_per_cpu_second": rates}


def cpu_seconds() -> float:
    """Of this process and of those it has waited for: LeRobot encodes in others."""
    return sum(os.times()[:4])


def train(kind: str, root: str, out: str, marks: str) -> dict[str, Any]:
    """Trains from nothing; CPU time counts from the start of the process, loading of data included.

    A policy whose preset anneals the learning rate gets its end before every mark: what is saved has been trained for just so long, the
    last fifth of it annealing; then training goes on from where annealing began.
    """
    torch.manual_seed(0)
    run = Training(kind, root)
    anneals, spent, told = run.config.get_scheduler_preset() is not None, time.process_time(), {}
    run.clock = spent
    for mark in map(float, marks.split(",")):
        run.until(mark * (1 - ANNEALING) if anneals else mark)
        kept = copy.deepcopy((run.policy.state_dict(), run.optimizer.state_dict())) if anneals else None
        steps, clock = run.steps, run.clock
        if anneals:
            run.until(mark, annealing=True)
        told[mark] = run.save(f"{out}-{mark:.0f}")
        if kept is not None:
            run.policy.load_state_dict(kept[0])
            run.optimizer.load_state_dict(kept[1])
            run.steps, run.clock = steps, clock
    return told


class Training:
    """A policy of LeRobot's in training; `clock` is the CPU time that went into it."""

    def __init__(self, kind: str, root: str) -> None:
        from lerobot.configs.types import FeatureType
        from lerobot.datasets.factory import resolve_delta_timestamps
        from lerobot.datasets.sampler import EpisodeAwareSampler
        from lerobot.datasets.utils import dataset_to_policy_features
        from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

        meta = open_data(root).meta
        found = dataset_to_policy_features(meta.features)
        outputs = {key: feature for key, feature in found.items() if feature.type is FeatureType.ACTION}
        inputs = {key: feature for key, feature in found.items() if key.startswith(("observation.images.", "observation.state"))}
        family, options = CONFIGS[kind]
        self.kind, self.steps, self.clock, self.losses = kind, 0, 0.0, []
        self.config = make_policy_config(family, input_features=inputs, output_features=outputs, device="cpu", **options)
        self.data = open_data(root, delta_timestamps=resolve_delta_timestamps(self.config, meta))
        self.policy = get_policy_class(family)(self.config).train()
        self.before, self.after = make_pre_post_processors(self.config, dataset_stats=meta.stats)
        self.optimizer = self.config.get_optimizer_preset().build(self.policy.get_optim_params())
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        sampler = None
        if hasattr(self.config, "drop_n_last_frames"):
            sampler = EpisodeAwareSampler(meta.episodes["dataset_from_index"], meta.episodes["dataset_to_index"],
                                          drop_n_last_frames=self.config.drop_n_last_frames, shuffle=True)
        loader = torch.utils.data.DataLoader(self.data, batch_size=BATCH, shuffle=sampler is None, sampler=sampler)
        self.batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def until(self, mark: float, *, annealing: bool = False) -> None:
        """Train until `clock` is at `mark`, `annealing` to nothing on the way."""
        began, last = self.clock, time.process_time()
        while self.clock < mark:
            batch = self.before(next(self.batches))
            scale = (1 + math.cos(math.pi * (self.clock - began) / (mark - began))) / 2 if annealing else min(1.0, (self.steps + 1) / WARMUP)
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * scale
            loss, _ = self.policy.forward(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 10.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.steps += 1
            self.losses.append(float(loss))
            now = time.process_time()
            self.clock, last = self.clock + now - last, now

    def save(self, out: str) -> dict[str, Any]:
        for part in (self.policy, self.before, self.after):
            part.save_pretrained(out)
        told = {"kind": self.kind, "steps": self.steps, "parameters_millions": sum(p.numel() for p in self.policy.parameters()) / 1e6,
                "samples": self.steps * BATCH, "epochs": self.steps * BATCH / len(self.data), "loss": float(np.mean(self.losses[-20:])),
                "cpu_seconds": self.clock}
        Path(out, "trained.json").write_text(json.dumps(told))
        return told


if __name__ == "__main__":
    print(json.dumps({"load": load, "record": record, "train": train}[sys.argv[1]](*sys.argv[2:])))
