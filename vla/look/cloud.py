"""Panels for clouds of points: from above and from the side in their own colours, and where Lift3D's tokens lie on its virtual planes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from perception.point_cloud import Cloud

SIDES = (("from above", 1, 0), ("from the side", 0, 2), ("from the front", 1, 2))
"""What is drawn in the rows of a cloud's panel: axis to the right, axis up."""
LINE = "#d8dee4"


def draw_cloud(axes: Axes, cloud: Cloud, row: int) -> None:
    """The first cloud, seen as row `row` of `SIDES` says; grounded points have a ring."""
    title, right, up = SIDES[row % len(SIDES)]
    real = cloud.mask[0].cpu()
    points, colors = cloud.points[0].cpu()[real].numpy(), cloud.colors[0].cpu()[real].clamp(0, 1).numpy()
    grounded = cloud.values[0, :, 6:].cpu().any(-1)[real].numpy()
    order = np.argsort(points[:, 2 if up != 2 else 1 - right]) if len(points) else np.arange(0)
    edges = np.where(grounded[:, None], [[0.76, 0.25, 0.05, 1.0]], [[0.4, 0.42, 0.45, 0.4]])
    axes.scatter(points[order, right], points[order, up], s=7, c=colors[order], edgecolors=edges[order], linewidths=0.4)
    axes.set_aspect("equal", adjustable="datalim")
    if (right, up) == (1, 0):
        axes.invert_xaxis()  # y is to the robot's left
    axes.text(0.02, 0.98, f"{title}, {int(real.sum())} points", transform=axes.transAxes, fontsize=6.5, va="top")


def draw_planes(axes: Axes, places: Float[Tensor, "b p t 2"], row: int, rows: int) -> None:
    """This row's share of the planes, side by side: where the first cloud's tokens look their position up."""
    planes = np.array_split(np.arange(places.shape[1]), rows)[row]
    for column, plane in enumerate(planes):
        x, y = column % 2 * 2.3, -(column // 2) * 2.3
        for line in np.linspace(-1, 1, 8):
            axes.plot([x - 1, x + 1], [y + line] * 2, color=LINE, linewidth=0.5, zorder=0)
            axes.plot([x + line] * 2, [y - 1, y + 1], color=LINE, linewidth=0.5, zorder=0)
        spots = places[0, plane].detach().cpu().numpy()
        axes.scatter(x + spots[:, 0], y - spots[:, 1], s=6, c=np.arange(len(spots)), cmap="viridis")
        axes.text(x - 1, y + 1.02, str(plane + 1), fontsize=6.5, va="bottom")
    axes.set_aspect("equal", adjustable="datalim")
