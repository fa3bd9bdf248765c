"""`demo`: the pretrained tiny backbone, its eye frozen and cached, LoRA on the rest, a diffusion head. Minutes on two cores."""

from __future__ import annotations

from pathlib import Path

from backbones.tiny.model import Tiny
from heads.diffusion import Diffusion
from vla.recipe import Data, Evaluation, Lora, Recipe, Train, Tuning


def demo() -> Recipe:
    return Recipe(
        name="demo",
        robot={"kind": "tabletop"},
        # The rest of the state (joints, rotation) says the same thing twice: less to learn by heart from 100 demonstrations.
        data=Data(root=Path("runs/demo/data"), state=("tool_x", "tool_y", "tool_z", "gripper_opening")),
        backbone=Tiny.Config(),
        head=Diffusion.Config(),
        horizon=8,
        execute=4,
        tuning=Tuning(mode="lora", vision="frozen", lora=Lora(rank=16, alpha=32)),
        train=Train(steps=1200, batch_size=64, learning_rate=1e-3, warmup=50, ema=0.99, save_every=200, val_every=100),
        evaluation=Evaluation(trials=100),
    )
