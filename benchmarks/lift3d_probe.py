"""How soon an encoder of points learns where the thing is: `python benchmarks/lift3d_probe.py lookup --run runs/probe`.

A policy's whole training takes long; this asks the part that perception answers for. Each encoder is trained, with the same small head,
on the same scenes in the same order, to say where the one object on the table is, and examined on scenes never seen: as they were
trained on, with the front camera moved, and with other surroundings. What is compared is Lift3D's positional embedding (arXiv
2411.18623, table 2), its planes and its pretraining, DP3's encoder, and the frozen eye of `tiny` on pictures. Error: in the plane of the
table, mm.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from perception.dp3 import Dp3
from perception.lift3d import Lift3D
from perception.percept import Batch, Percept, perceive
from perception.point_cloud import PointCloud
from robot_io.tabletop.env import TabletopRobot
from robot_io.tabletop.regimes import options
from vla.evaluate.statistics import mean_of
from vla.files import slug
from vla.recipes.cloud import CLOUD
from vla.results import Row, save_rows

CUBE = {"centre": (0.5, 0.0, 0.1), "reach": 0.35}
"""In the base frame: the question is where on the table, not how far from the hand."""
SIZES = {"tokens": 32, "neighbours": 8, "projection": "orthographic", **CUBE}
ENCODERS = {
    "lookup": lambda: Lift3D(Lift3D.Config(**SIZES)),
    "none": lambda: Lift3D(Lift3D.Config(**SIZES, position="none")),
    "new": lambda: Lift3D(Lift3D.Config(**SIZES, position="new")),
    "as released": lambda: Lift3D(Lift3D.Config(**SIZES, matched=False)),
    "one plane": lambda: Lift3D(Lift3D.Config(**SIZES, planes=1)),
    "random weights": lambda: Lift3D(Lift3D.Config(**SIZES, weights=None)),
    "dp3": lambda: Dp3(Dp3.Config(**CUBE)),
    "eye": lambda: None,
}
NAMES = {"lookup": "lift3d, looked up", "none": "lift3d, no position", "new": "lift3d, new position",
         "as released": "lift3d, looked up, tokens as they come", "one plane": "lift3d, looked up on one plane",
         "random weights": "lift3d, looked up, random weights", "dp3": "dp3", "eye": "RGB, frozen eye of tiny"}
SPLITS = {"train": ("clean", 0, 400), "clean": ("clean", 20_000, 150), "camera": ("camera", 20_000, 100),
          "background all": ("background all", 20_000, 100)}
"""Regime, first seed, number of scenes."""


def scenes(folder: Path, split: str) -> dict[str, Tensor]:
    """Clouds, eye cells and true places of a split's scenes; made once."""
    path = folder / f"{slug(split)}.npz"
    if not path.exists():
        regime, first, count = SPLITS[split]
        robot, cloud, eye = TabletopRobot(**options(regime)), PointCloud(PointCloud.Config(**CLOUD | {"frame": None})), _eye()
        rows: list[dict[str, np.ndarray]] = []
        for seed in range(first, first + count):
            robot.reset(seed)
            batch = Batch.stack([robot.observe()], ("front", "wrist"))
            with torch.no_grad():
                seen = perceive([cloud], batch)
                cells = eye(torch.cat([batch.rgb[name] for name in batch.cameras]).permute(0, 3, 1, 2).float() / 255)
            place = next(thing.position for thing in robot.object_state() if thing.target)
            rows.append({"cloud": seen.maps["cloud"][0].numpy(), "cloud_mask": seen.maps["cloud_mask"][0].numpy(),
                         "cells": cells.half().numpy(), "place": place.astype(np.float32)})
        robot.close()
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})
    return {name: torch.from_numpy(values) for name, values in np.load(path).items()}


def _eye() -> nn.Module:
    from backbones.context import Inputs
    from backbones.tiny.model import Tiny

    tiny = Tiny(Tiny.Config(), Inputs(views=2, image_size=(128, 128), state_dim=0))
    tiny.load_pretrained()
    return tiny.eye.eval().requires_grad_(False)


class Pointer(nn.Module):
    """An encoder and a head: one query looks at all tokens and says the place, in decimetres from the middle of the table."""

    def __init__(self, encoder: nn.Module | None) -> None:
        super().__init__()
        self.encoder = encoder
        width = 128 if encoder is None else encoder.token_dim
        self.enter = nn.Linear(width, 96)
        self.views = nn.Parameter(torch.zeros(2, 1, 96))
        self.query = nn.Parameter(torch.randn(1, 1, 96) * 0.02)
        self.look = nn.MultiheadAttention(96, 4, batch_first=True)
        self.say = nn.Sequential(nn.LayerNorm(96), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 2))

    def forward(self, data: dict[str, Tensor], index: Tensor) -> Tensor:
        """Places `[B, 2]`, metres."""
        if self.encoder is None:
            tokens = (self.enter(data["cells"][index].float()) + self.views).flatten(1, 2)
        else:
            tokens = self.enter(self.encoder(None, Percept(maps={n: data[n][index] for n in ("cloud", "cloud_mask")})).tokens)
        found, _ = self.look(self.query.expand(len(index), -1, -1), tokens, tokens, need_weights=False)
        return self.say(found[:, 0]) / 10 + torch.tensor(CUBE["centre"][:2])


def fit(model: Pointer, data: dict[str, Tensor], steps: int, batch: int, seed: int) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        index = torch.randint(len(data["place"]), (batch,), generator=order)
        loss = ((model(data, index) - data["place"][index, :2]) * 10).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def examine(model: Pointer, data: dict[str, Tensor]) -> list[float]:
    """Each scene's error, mm."""
    found = torch.cat([model(data, index) for index in torch.arange(len(data["place"])).split(50)])
    return ((found - data["place"][:, :2]).norm(dim=-1) * 1000).tolist()


def rows(folder: Path, command: str) -> list[Row]:
    """The table of all measurements in the folder, the training seeds of an encoder together."""
    table = []
    for name, title in NAMES.items():
        measured = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{slug(name)}-*.json"))]
        for split in SPLITS if measured else ():
            errors = [error for one in measured for error in one["errors"].get(split, [])]
            if errors:
                table.append({"cell": {"encoder": title, "training seeds": str(len(measured))}, "metric": f"error_mm_{slug(split)}",
                              **mean_of(errors).to_dict(), "seeds": [SPLITS[split][1], SPLITS[split][1] + SPLITS[split][2] - 1], "recipe": "–",
                              "command": command})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", choices=(*ENCODERS, *SPLITS, "table"), help="what to train; or scenes to draw; or `table` to write --out")
    parser.add_argument("--run", type=Path, default=Path("runs/probe"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("docs/results/lift3d.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.encoder == "table":
        save_rows(given.out, rows(given.run, "python benchmarks/lift3d_probe.py"))
        return
    if given.encoder in SPLITS:
        scenes(given.run, given.encoder)
        return
    torch.manual_seed(given.seed)
    encoder = ENCODERS[given.encoder]()
    if encoder is not None:
        encoder.load_pretrained()
    model = Pointer(encoder)
    fit(model, scenes(given.run, "train"), given.steps, given.batch, given.seed)
    errors = {split: examine(model, scenes(given.run, split)) for split in SPLITS if split != "train"}
    (given.run / f"{slug(given.encoder)}-{given.seed}.json").write_text(json.dumps({"errors": errors, "steps": given.steps}))
    print(given.encoder, {split: round(float(np.mean(values)), 1) for split, values in errors.items()})


if __name__ == "__main__":
    main()
