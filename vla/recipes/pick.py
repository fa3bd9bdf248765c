"""`pick` and `raw`: the pretrained tiny backbone on raw RGB, its eye frozen and cached, LoRA on the rest, a diffusion head.

`pick` is demonstrated among two objects, so that the words decide. `raw` is demonstrated with one object alone on the table:
beside `grounded`, it shows what clutter does to a policy whose perception is left to the demonstrations.
"""

from __future__ import annotations

from pathlib import Path

from backbones.tiny.model import Tiny
from heads.diffusion import Diffusion
from vla.recipe import Data, Evaluation, Lora, Recipe, Train, Tuning

CLEAN = {"kind": "tabletop", "task": {"distractors": 0, "pairs": "seen"}}
"""One object alone, of a colour and shape that were shown together before: the clutter benchmark's demonstrations."""


def pick() -> Recipe:
    return Recipe(
        name="pick",
        robot={"kind": "tabletop"},
        # The rest of the state (joints, rotation) says the same thing twice: less to learn by heart from 100 demonstrations.
        data=Data(root=Path("runs/pick/data"), state=("tool_x", "tool_y", "tool_z", "gripper_opening")),
        backbone=Tiny.Config(),
        head=Diffusion.Config(),
        horizon=8,
        execute=4,
        tuning=Tuning(mode="lora", vision="frozen", lora=Lora(rank=16, alpha=32)),
        train=Train(steps=1200, batch_size=64, learning_rate=1e-3, warmup=50, ema=0.99, save_every=200, val_every=100),
        evaluation=Evaluation(trials=100),
    )


def raw() -> Recipe:
    shorter = pick().to_dict()["train"] | {"steps": 800, "batch_size": 32}
    return Recipe.from_dict(pick().to_dict() | {"name": "raw", "robot": CLEAN, "train": shorter})
