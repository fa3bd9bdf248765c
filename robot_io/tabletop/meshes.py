"""Procedurally made meshes: the bodies of the unseen objects. Pure NumPy, a few hundred triangles each.

Every function returns vertices `float64 [V, 3]` and faces `int32 [F, 3]` (counter-clockwise seen from outside), in units of the
object's half width: about 1 from the middle to the side, standing on its lowest points. Superquadrics after Barr (1981).
"""

from __future__ import annotations

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]


def superquadric(vertical: float, around: float, size: tuple[float, float, float], rings: int = 12, sides: int = 20) -> Mesh:
    """A box, ball, pillow or diamond: exponents 1 are round, towards 0 they are square, above 1 they are pinched."""
    def power(values: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(values) * np.abs(values) ** exponent

    up, turn = _angles(rings, sides)
    flat = power(np.cos(up), vertical)
    return _closed(np.stack([size[0] * flat * power(np.cos(turn), around), size[1] * flat * power(np.sin(turn), around),
                             size[2] * power(np.sin(up), vertical)], -1))


def bumpy_ball(bumps: tuple[int, int], depth: float, size: tuple[float, float, float], rings: int = 14, sides: int = 24) -> Mesh:
    """A ball with waves running `bumps` times up and around it, its underside cut flat so that it stands."""
    up, turn = _angles(rings, sides)
    radius = 1 + depth * np.sin(bumps[0] * (up + np.pi / 2)) * np.cos(bumps[1] * turn)
    points = radius[..., None] * np.stack([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.sin(up)], -1)
    points = points * size
    points[..., 2] = np.maximum(points[..., 2], -0.7 * size[2])
    return _closed(points)


def revolved(profile: tuple[tuple[float, float], ...], sides: int = 16) -> Mesh:
    """A turned body: `profile` lists (radius, height) from the bottom up."""
    radius, height = np.array(profile, float).T
    turn = np.arange(sides) * 2 * np.pi / sides
    return _closed(np.stack([np.outer(radius, np.cos(turn)), np.outer(radius, np.sin(turn)), np.repeat(height[:, None], sides, 1)], -1))


def twisted_prism(sides: int, twist: float, taper: float, height: float, layers: int = 8) -> Mesh:
    """A prism of `sides` corners whose top is turned by `twist` radians and `taper` times as wide; `height` is half of it."""
    share = np.linspace(0, 1, layers)[:, None]
    turn = np.arange(sides) * 2 * np.pi / sides + twist * share
    radius = 1.2 + (taper - 1) * 1.2 * share
    return _closed(np.stack([radius * np.cos(turn), radius * np.sin(turn), np.broadcast_to(height * (2 * share - 1), turn.shape)], -1))


def extruded(outline: np.ndarray, height: float) -> Mesh:
    """A flat outline `[P, 2]`, all of it in sight of the middle, pulled up to a slab; `height` is half its thickness."""
    return _closed(np.stack([np.pad(outline, ((0, 0), (0, 1)), constant_values=z) for z in (-height, height)]))


def petals(n: int, radius: float, depth: float, edge: float = 0.0) -> np.ndarray:
    """An outline of `n` lobes; `edge` from 0 (round) upwards makes them the flat teeth of a gear."""
    turn = np.arange(n * 8) * 2 * np.pi / (n * 8)
    wave = np.cos(n * turn)
    out = radius + depth * (np.clip(edge * wave, -1, 1) if edge else wave)
    return np.stack([out * np.cos(turn), out * np.sin(turn)], -1)


def star(points: int, outer: float, inner: float) -> np.ndarray:
    """An outline of straight edges between `points` tips and as many corners."""
    turn = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, inner, outer)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)


def heart() -> np.ndarray:
    """A heart's outline."""
    t = np.arange(40) * 2 * np.pi / 40
    across = 16 * np.sin(t) ** 3
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t) + 2
    return np.stack([across, up], -1)[::-1] / 12.5


def torus(tube: float, tall: float = 1.0, waves: int = 0, sides: int = 24, around: int = 10) -> Mesh:
    """A ring with a hole, its section `tall` times as high as wide, swelling `waves` times on the way around."""
    turn, roll = np.meshgrid(np.arange(sides) * 2 * np.pi / sides, np.arange(around) * 2 * np.pi / around, indexing="ij")
    thick = tube * (1 + 0.2 * np.cos(waves * turn)) if waves else np.full_like(turn, tube)
    out = 1.25 - tube + thick * np.cos(roll)
    points = np.stack([out * np.cos(turn), out * np.sin(turn), tall * thick * np.sin(roll)], -1)
    return points.reshape(-1, 3), _strips(sides, around, wrap=True)


def _angles(rings: int, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Elevation and azimuth of a grid over the sphere, `[rings, sides]`, the poles left out."""
    up = np.linspace(-np.pi / 2, np.pi / 2, rings + 2)[1:-1]
    return np.meshgrid(up, np.arange(sides) * 2 * np.pi / sides, indexing="ij")


def _closed(grid: np.ndarray) -> Mesh:
    """A tube of rings from the bottom up, `[rings, sides, 3]`, closed by a point in the middle of either end."""
    rings, sides, _ = grid.shape
    vertices = np.vstack([grid.reshape(-1, 3), grid[0].mean(0), grid[-1].mean(0)])
    bottom, top = rings * sides, rings * sides + 1
    this, after = np.arange(sides), (np.arange(sides) + 1) % sides
    last = (rings - 1) * sides
    lids = [np.stack([after, this, np.full(sides, bottom)], 1), np.stack([last + this, last + after, np.full(sides, top)], 1)]
    return vertices, np.vstack([_strips(rings, sides, wrap=False), *lids]).astype(np.int32)


def _strips(rings: int, sides: int, wrap: bool) -> np.ndarray:
    """Two triangles for each patch between a ring and the next; with `wrap` the last ring meets the first."""
    ring = np.arange(rings if wrap else rings - 1)[:, None]
    side = np.arange(sides)[None]
    a, b = ring * sides + side, ring * sides + (side + 1) % sides
    c, d = (ring + 1) % rings * sides + side, (ring + 1) % rings * sides + (side + 1) % sides
    order = ((a, c, b), (b, c, d)) if wrap else ((a, b, c), (b, d, c))
    return np.vstack([np.stack([corner.ravel() for corner in triangle], 1) for triangle in order]).astype(np.int32)
