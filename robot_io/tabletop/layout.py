"""What stands on the table and where: a seed decides it, within what a `Task` allows.

Positions are `(x, y)` in metres in the base frame; a width is half the size of the object's footprint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_io.errors import UserError
from robot_io.tabletop import textures
from robot_io.tabletop.objects import COLORS, HELD_OUT, SIZE, UNSEEN, UNSEEN_COLORS, has_mesh
from robot_io.tabletop.scene import BOWL_COLORS, BOWL_RADIUS
from robot_io.tabletop.tasks import PICK, PLACE, Task

AREA_LOW, AREA_HIGH = np.array([0.36, -0.17]), np.array([0.58, 0.17])
CENTRE, HALF_AREA = (AREA_LOW + AREA_HIGH) / 2, (AREA_HIGH - AREA_LOW) / 2
INNER, MIDDLE = 0.58 * HALF_AREA, np.array([0.025, 0.025])
"""Half the sizes of the task's `inner` and `middle` areas."""
HALF_WIDTHS = (0.0175, 0.0235)
SPACING = 0.105  # between centres: an open finger fits beside its object
BOWL_SPACING = SPACING / 2 + BOWL_RADIUS + 0.03
GAPS = (1.0, 0.9, 0.8)  # shares of the spacing to try for, when the table is crowded
BOWL_INSET = 0.03  # keeps all of a bowl in the front camera's picture

@dataclass(frozen=True)
class Item:
    """One object as laid out."""

    shape: str
    color: str
    half_width: float
    rgb: tuple[float, float, float]
    position: tuple[float, float]
    yaw: float
    texture: str = ""

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Bowl:
    """One bowl as laid out."""

    color: str
    position: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """A scene and what to do in it: `target` and `bowl` index `items` and `bowls`; `target` is None if what is asked for is absent."""

    items: tuple[Item, ...]
    bowls: tuple[Bowl, ...]
    target: int | None
    bowl: int | None
    instruction: str


RELATIONS = {
    "on the left": lambda x, y: -y, "on the right": lambda x, y: y,
    "nearest to the robot": lambda x, y: -np.hypot(x, y), "farthest from the robot": np.hypot,
}
"""What an object may be told by, and by how much it is (m); see tasks.py for who sees left on which side."""
MARGIN = 0.05
"""By how much, m, the one that is meant leads the next of its shape."""
Pair = tuple[str, str]


def draw_layout(task: Task, rng: np.random.Generator, n_objects: int | None = None) -> Layout:
    """A random layout of `n_objects` (all that the task asks for if None)."""
    count = 1 + task.distractors if n_objects is None else n_objects
    if task.relation:
        return _draw_relational(task, rng, count)
    kinds, named = _draw_kinds(task, rng, count)
    items, bowls = _place(task, rng, kinds, _draw_spots(rng, count, task))
    target = int(rng.integers(count))
    if named is None:
        named = kinds[target]
    else:
        items = _swapped(items, 0, target)
    return _finish(task, rng, items, bowls, None if task.absent else target, " ".join(named))


def _draw_kinds(task: Task, rng: np.random.Generator, count: int) -> tuple[list[Pair], Pair | None]:
    """What is on the table, and what is asked for: None for any of it, else the first of it, unless it is absent."""
    pairs = task.known_pairs
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    if task.pairs != "held_out" and task.clutter == "named" and not task.absent:
        return order[:count], None
    named = next(pair for pair in order if task.pairs != "held_out" or pair in HELD_OUT)
    others = _draw_unseen(rng) if task.clutter == "unseen" else [pair for pair in order if pair != named]
    return (others[:count] if task.absent else [named, *others[:count - 1]]), named


def _draw_unseen(rng: np.random.Generator) -> list[Pair]:
    """The catalogue of unseen objects in random order, half of them with a texture: `("striped teal", "gear")`."""
    shapes, colors, worn = list(UNSEEN), list(UNSEEN_COLORS), list(textures.WORN)
    looks = [" ".join((*([str(rng.choice(worn))] if rng.random() < 0.5 else []), str(rng.choice(colors)))) for _ in shapes]
    return [(look, shapes[i]) for look, i in zip(looks, rng.permutation(len(shapes)), strict=True)]


def _draw_relational(task: Task, rng: np.random.Generator, count: int) -> Layout:
    """Two or three objects of one shape, of which only their places tell which is meant, among others of other shapes."""
    pairs = task.known_pairs
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    shape = str(rng.choice(task.shared_shapes))
    alike, others = ([pair for pair in order if (pair[1] == shape) == same] for same in (True, False))
    group = min(int(rng.integers(2, 4)), count, len(alike))
    kinds = [*alike[:group], *others[:count - group]]
    kinds += alike[group:group + count - len(kinds)]  # where no other shapes are left, more are alike
    group = sum(kind[1] == shape for kind in kinds)
    kinds.sort(key=lambda kind: kind[1] != shape)
    phrase = str(rng.choice(list(RELATIONS)))
    for _ in range(500):
        spots = _draw_spots(rng, count, task)
        scores = [RELATIONS[phrase](*spot) for spot in spots[task.n_bowls:][:group]]
        if np.diff(np.sort(scores)[-2:])[0] >= MARGIN:
            break
    else:
        raise UserError("tabletop layout", f"{group} objects of one shape cannot be told apart by their places",
                        f"{MARGIN} m between the one that is meant and the next", "ask for fewer distractors or bowls")
    items, bowls = _place(task, rng, kinds, spots)
    target = int(rng.integers(count))
    return _finish(task, rng, _swapped(items, int(np.argmax(scores)), target), bowls, target, f"{shape} {phrase}")


def _place(task: Task, rng: np.random.Generator, kinds: list[Pair], spots: list[tuple[float, float]]) -> tuple[list[Item], tuple[Bowl, ...]]:
    """Give every kind of object a size, a print of its colour and a spot, and every bowl a colour."""
    items = []
    for (color, shape), spot in zip(kinds, spots[task.n_bowls:], strict=True):
        texture, _, plain = color.rpartition(" ")
        half_width = float(rng.uniform(*HALF_WIDTHS))
        rgb = _vary((COLORS | UNSEEN_COLORS)[plain], rng)
        yaw = float(rng.uniform(-np.pi, np.pi))
        items.append(Item(shape, color, SIZE if has_mesh(shape) else half_width, rgb, spot, yaw, texture))
    bowl_colors = [list(BOWL_COLORS)[i] for i in rng.permutation(len(BOWL_COLORS))]
    return items, tuple(Bowl(color, spot) for color, spot in zip(bowl_colors, spots[:task.n_bowls], strict=False))


def _swapped(items: list[Item], i: int, j: int) -> list[Item]:
    items = list(items)
    items[i], items[j] = items[j], items[i]
    return items


def _finish(task: Task, rng: np.random.Generator, items: list[Item], bowls: tuple[Bowl, ...], target: int | None, name: str) -> Layout:
    bowl = int(rng.integers(len(bowls))) if task.task == "place" else None
    templates = PICK if task.task == "pick" else PLACE
    template = templates[int(rng.integers(len(templates)))] if task.paraphrase else templates[0]
    bowl_name = "bowl" if bowl is None or len(bowls) == 1 else f"{bowls[bowl].color} bowl"
    return Layout(tuple(items), bowls, target, bowl, template.format(object=name, bowl=bowl_name))


def _draw_spots(rng: np.random.Generator, count: int, task: Task) -> list[tuple[float, float]]:
    """Positions for bowls, then for objects in the task's area, each at its distance from all others."""
    n_bowls = task.n_bowls
    radii = np.array([BOWL_SPACING - SPACING / 2] * n_bowls + [SPACING / 2] * count)
    insets = np.array([BOWL_INSET] * n_bowls + [0.0] * count)
    for gap in np.repeat(GAPS, 100):
        spots = np.empty((0, 2))
        for number, (radius, inset) in enumerate(zip(radii, insets, strict=True)):
            candidates = _candidates(rng, "all" if number < n_bowls else task.area, inset)
            distances = np.linalg.norm(candidates[:, None] - spots, axis=2)
            free = (distances >= gap * (radius + radii[:len(spots)])).all(1)
            if not free.any():
                break
            spots = np.vstack([spots, candidates[free.argmax()]])
        else:
            return [(float(x), float(y)) for x, y in spots]
    raise UserError("tabletop layout", f"{count} objects and {n_bowls} bowls do not fit on the table",
                    f"{GAPS[-1] * SPACING:.2f} m between objects", "ask for fewer distractors or bowls")


def _candidates(rng: np.random.Generator, area: str, inset: float) -> np.ndarray:
    """`[60, 2]` places in an area; fewer, or none, in the outer one."""
    half = {"middle": MIDDLE, "inner": INNER}.get(area)
    if half is not None:
        return rng.uniform(CENTRE - half, CENTRE + half, (60, 2))
    anywhere = rng.uniform(AREA_LOW + inset, AREA_HIGH - inset, (60, 2))
    return anywhere[(np.abs(anywhere - CENTRE) > INNER).any(1)] if area == "outer" else anywhere


def _vary(rgb: tuple[float, float, float], rng: np.random.Generator) -> tuple[float, float, float]:
    """No two prints of a colour are alike."""
    red, green, blue = np.clip(np.array(rgb) * rng.uniform(0.88, 1.08) + rng.uniform(-0.03, 0.03, 3), 0, 1)
    return float(red), float(green), float(blue)
