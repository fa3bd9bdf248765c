"""`heads`: every head on the same backbone, demonstrations and scenes. `denoising`: the same weights with fewer or more steps.

The backbone is `tiny` with LoRA and a frozen eye; 400 steps of 32 samples at one learning rate for all.
The U-Net and the DiT are small ones: at their papers' sizes they would be forty times the backbone.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid

COMMON = ("train.steps=400", "train.batch_size=32", "train.learning_rate=1e-3")
STEPS = (1, 2, 4, 10, 50)

UNET = "{kind: unet, down_dims: [64, 128], step_embedding: 64, condition: 128}"
DIT = "{kind: dit, width: 128, depth: 3, attention_heads: 4}"
JOINT = "{kind: joint, width: 128, depth: 3, attention_heads: 4, head_dim: 32}"


def _cell(head: str, network: str, *overrides: str, **rest: tuple[str, ...]) -> Cell:
    return Cell({"head": head, "network": network}, overrides, **rest)


def heads() -> Grid:
    return Grid(
        "heads", "pick", seeds=(0,), trials=100, common=COMMON,
        cells=(
            _cell("regression, L1", "MLP", "head={kind: regression}"),
            _cell("regression, MSE", "MLP", "head={kind: regression, error: mse}"),
            _cell("tokens, parallel", "MLP", "head={kind: tokens}"),
            _cell("tokens, FAST", "transformer", "head={kind: fast}"),
            _cell("diffusion", "MLP"),
            _cell("diffusion", "U-Net", f"head.denoiser={UNET}"),
            _cell("diffusion", "DiT", f"head.denoiser={DIT}"),
            _cell("flow", "MLP", "head={kind: flow}"),
            _cell("flow to the chunk", "MLP", "head={kind: flow, prediction: sample}"),
            _cell("flow", "cross-attention", "head={kind: flow, expert: {kind: cross}}"),
            _cell("flow", "joint attention", f"head={{kind: flow, expert: {JOINT}}}"),
            _cell("flow, distilled", "MLP", "head={kind: flow}", student=()),
        ),
    )


def denoising() -> Grid:
    kinds = {"diffusion": "head={kind: diffusion}", "flow": "head={kind: flow}"}
    return Grid(
        "denoising", "pick", seeds=(0,), trials=100, common=COMMON,
        cells=tuple(Cell({"head": head, "steps": str(steps)}, (override,), opened=(f"head.steps={steps}",))
                    for head, override in kinds.items() for steps in STEPS),
    )
