"""A scene that can be drawn by formula: a ball on a table before two pinhole cameras. For tests of geometry."""

from __future__ import annotations

import numpy as np
import torch

from perception.percept import Batch, Percept, raw
from perception.regions import TARGET, Regions

SIZE, FOCAL = 48, 60.0
INTRINSICS = np.array([[FOCAL, 0, (SIZE - 1) / 2], [0, FOCAL, (SIZE - 1) / 2], [0, 0, 1]], np.float32)
RADIUS = 0.05


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`world_from_camera` of a camera at `eye` that looks at `target`, upright."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = eye
    return pose


POSES = {"front": look_at(np.array([1.1, 0.1, 0.6]), np.array([0.48, 0, 0])),
         "side": look_at(np.array([0.5, -0.7, 0.5]), np.array([0.48, 0, 0]))}


def draw(pose: np.ndarray, ball: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth `[H, W]` of a table at z = 0 with a ball on it, and the ball's mask."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(INTRINSICS).T @ pose[:3, :3].T
    eye = pose[:3, 3]
    table = np.where(rays[..., 2] < 0, -eye[2] / np.minimum(rays[..., 2], -1e-9), 5.0)
    a, b = (rays**2).sum(-1), rays @ (eye - ball)
    root = b**2 - a * (((eye - ball) ** 2).sum() - RADIUS**2)
    hit = root > 0
    return np.where(hit, (-b - np.sqrt(np.maximum(root, 0))) / a, table).astype(np.float32), hit


def scene(*balls: tuple[float, float], poses: dict[str, np.ndarray] | None = None) -> tuple[Batch, Percept]:
    """One observation per ball, which is the target; grey noise for colours."""
    poses = POSES if poses is None else poses
    centres = [np.array([x, y, RADIUS]) for x, y in balls]
    drawn = {name: [draw(POSES[name], centre) for centre in centres] for name in POSES}
    count = len(centres)
    rng = np.random.default_rng(0)
    batch = Batch(
        rgb={name: torch.from_numpy(rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)) for name in POSES},
        state=torch.zeros(count, 1), instructions=["pick up the ball"] * count,
        depth={name: torch.from_numpy(np.stack([depth for depth, _ in pairs])) for name, pairs in drawn.items()},
        intrinsics={name: torch.from_numpy(INTRINSICS).expand(count, 3, 3) for name in POSES},
        world_from_camera={name: torch.from_numpy(pose).expand(count, 4, 4) for name, pose in poses.items()},
    )
    masks = torch.from_numpy(np.stack([np.stack([mask for _, mask in pairs]) for pairs in drawn.values()], 1))[:, :, None]
    regions = Regions(masks, masks.flatten(3).any(-1).float() * 0.9, (TARGET,), [("ball",)] * count)
    return batch, raw(batch).replace(regions=regions)
