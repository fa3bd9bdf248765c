"""`lora`: rank, targets and variants of low-rank adaptation of `tiny`, against a frozen and a fully tuned trunk."""

from __future__ import annotations

from vla.ablate import Cell, Grid

ATTENTION = r"tuning.lora.targets=['layers\.\d+\.(attend\.[qkvo]|look\.[qo])']"
FEED_FORWARD = r"tuning.lora.targets=['layers\.\d+\.(up|down)']"


def _lora(name: str, rank: int, *overrides: str) -> Cell:
    return Cell({"tuning": name, "rank": str(rank)}, (f"tuning.lora.rank={rank}", f"tuning.lora.alpha={2 * rank}", *overrides))


def lora() -> Grid:
    return Grid(
        "lora", "pick", seeds=(0,), trials=100,
        common=("train.steps=400", "train.batch_size=32", "train.learning_rate=1e-3"),
        cells=(
            Cell({"tuning": "frozen trunk", "rank": "–"}, ("tuning.mode=frozen",)),
            *(_lora("LoRA", rank) for rank in (2, 8, 16, 64)),
            _lora("LoRA, attention only", 16, ATTENTION),
            _lora("LoRA, feed-forward only", 16, FEED_FORWARD),
            _lora("rsLoRA", 16, "tuning.lora.rslora=true"),
            _lora("DoRA", 16, "tuning.lora.dora=true"),
            _lora("QLoRA, nf4", 16, "tuning.quantize=nf4"),
            Cell({"tuning": "full trunk", "rank": "–"}, ("tuning.mode=full",)),
        ),
    )
