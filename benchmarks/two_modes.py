"""Two equally good ways around an obstacle: what each head makes of demonstrations that disagree.

    python benchmarks/two_modes.py          # docs/images/two_modes.png and docs/results/two_modes.json; then: python -m vla.results

Demonstrations go from left to right, above or below the obstacle with equal chances, and nothing tells which. A head succeeds with a
chunk that is one of the two ways from its first step to its last.

Shapes: B samples, n draws, T = 16 steps, A = 2: a position in the plane.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backbones.context import Context
from heads import HEADS
from heads.flow import Flow
from heads.head import Head, Output
from heads.one_step import OneStep, student_of
from vla.evaluate.statistics import rate_of
from vla.results import save_rows

OUTPUT = Output(horizon=16, action_dim=2, context_dim=16, queries=2)
OBSTACLE, DETOUR, NEAR = 0.3, 0.6, 0.15
"""Radius of the obstacle at the origin; how far the ways keep from it; how far a step of a chunk may be off a way."""

MLP = {"width": 192, "depth": 2, "condition": 32, "dropout": 0.0}
FLAT = {"kind": "flat", "width": 96, "depth": 2, "features": 16, "dropout": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "regression, MSE": {"kind": "regression", "error": "mse", "trunk": {"kind": "fc", "width": 96}},
    "regression, L1": {"kind": "regression", "trunk": {"kind": "fc", "width": 96}},
    "tokens, parallel": {"kind": "tokens", "bins": 64, "basis": None, "smoothing": 0.0, "temperature": 1.0, "decoder": FLAT},
    "tokens, FAST": {"kind": "fast", "width": 64, "depth": 2, "attention_heads": 2, "dropout": 0.0, "vocabulary": 128, "temperature": 1.0},
    "diffusion": {"kind": "diffusion", "denoiser": MLP},
    "flow": {"kind": "flow", "expert": MLP},
    "flow to the chunk": {"kind": "flow", "expert": MLP, "prediction": "sample"},
}
DISTILLED = "flow, distilled"


def ways(count: int) -> Float[Tensor, "b t 2"]:
    """Demonstrations: above or below, each a little different."""
    along = torch.linspace(0, 1, OUTPUT.horizon)
    side = torch.randint(0, 2, (count, 1)) * 2.0 - 1.0
    across = side * DETOUR * (1 + 0.05 * torch.randn(count, 1)) * torch.sin(math.pi * along)
    return torch.stack([(1.8 * along - 0.9).expand(count, -1), across], -1)


def context(count: int) -> Context:
    """The same for everybody."""
    read = torch.ones(count, OUTPUT.queries, OUTPUT.context_dim).cumsum(-1) / OUTPUT.context_dim
    return Context(read, torch.ones(count, OUTPUT.queries, dtype=torch.bool), read)


def make(options: dict[str, Any], seed: int = 0) -> Head:
    torch.manual_seed(seed)
    config = HEADS.configure(options)
    return HEADS.load(config.kind)(config, OUTPUT)


def learn(head: Head, steps: int = 800, batch: int = 64, rate: float = 2e-3) -> Head:
    """Train on fresh demonstrations in every step."""
    valid = torch.ones(batch, OUTPUT.horizon, dtype=torch.bool)
    head.study(lambda: (ways(500), torch.ones(500, OUTPUT.horizon, dtype=torch.bool)))
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(context(batch), ways(batch), valid).total.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def distilled(teacher: Flow, **options: Any) -> Head:
    torch.manual_seed(0)
    student = OneStep(student_of(teacher), OUTPUT)
    student.learn_from(teacher)
    return learn(student, **options)


@torch.inference_mode()
def draw(head: Head, count: int, seed: int = 1) -> Float[Tensor, "count t 2"]:
    torch.manual_seed(seed)
    return head.sample(context(count))[:, 0]


def one_way(chunks: Float[Tensor, "b t 2"]) -> Tensor:
    """`bool [B]`: every step near the same one of both ways."""
    along = torch.linspace(0, 1, OUTPUT.horizon)
    above = torch.stack([1.8 * along - 0.9, DETOUR * torch.sin(math.pi * along)], -1)
    off = [(chunks - way).norm(dim=-1).amax(1) for way in (above, above * torch.tensor([1.0, -1.0]))]
    return torch.minimum(*off) < NEAR


def picture(drawn: dict[str, Tensor], path: Path) -> None:
    """A panel per head: what it draws, coloured by whether it is one of the ways."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    columns = min(4, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for empty in panels[len(drawn):]:
        empty.set_axis_off()
    for axes, (name, chunks) in zip(panels, drawn.items(), strict=False):
        axes.add_patch(Circle((0, 0), OBSTACLE, color="#c9d1d9", zorder=0))
        good = one_way(chunks)
        for chunk, fine in list(zip(chunks, good, strict=True))[:24]:
            axes.plot(*chunk.T, color="#2f6f9f" if fine else "#cf3636", linewidth=0.8, alpha=0.6, marker=".", markersize=2.5)
        axes.set_title(f"{name}\n{100 * good.float().mean():.0f} % go one way", fontsize=9)
        axes.set(xlim=(-1.1, 1.1), ylim=(-1.0, 1.0), xticks=[], yticks=[], aspect="equal")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--draws", type=int, default=400)
    arguments = parser.parse_args()
    trained = {name: learn(make(options)) for name, options in KINDS.items()}
    trained[DISTILLED] = distilled(trained["flow"])
    drawn = {name: draw(head, arguments.draws) for name, head in trained.items()}
    picture(drawn, arguments.docs / "images" / "two_modes.png")
    shares: dict[str, Callable[[Tensor], Tensor]] = {"success": one_way, "above": lambda chunks: chunks.mean(1)[:, 1] > 0}
    save_rows(arguments.docs / "results" / "two_modes.json", [
        {"cell": {"head": name}, "metric": metric, **rate_of(share(chunks).tolist()).to_dict(), "seeds": [0], "recipe": "",
         "command": "python benchmarks/two_modes.py"}
        for name, chunks in drawn.items() for metric, share in shares.items()])


if __name__ == "__main__":
    main()
