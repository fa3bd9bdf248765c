"""What is asked for on the tabletop, and what it may be asked of.

An instruction names a colour and a shape; no two objects share both, so it is never ambiguous. Or it names a shape and a place
(`relation`): left and right are as the front camera sees them, facing the robot, so left is towards negative y, the robot's right;
nearest and farthest are distances from the robot's base.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from robot_io.errors import UserError, nearest
from robot_io.tabletop.objects import COLORS, HELD_OUT, NAMED
from robot_io.tabletop.scene import BOWL_COLORS

PICK = ("pick up the {object}", "grasp the {object}", "lift the {object}", "take the {object}",
        "raise the {object} off the table")
PLACE = ("put the {object} in the {bowl}", "place the {object} into the {bowl}", "drop the {object} in the {bowl}",
         "move the {object} to the {bowl}")


class Task(BaseModel):
    """What may be asked for and how full the table is.

    Attributes:
        task: `pick` (lift the named object) or `place` (put it in the bowl).
        distractors: objects beside the named one.
        bowls: bowls on the table; None means one for `place`, none for `pick`. With several, the instruction names a colour.
        colors, shapes: what objects are made of.
        paraphrase: say the same thing in several ways.
        pairs: `all` colours with all shapes; `seen`: the pairs in `objects.HELD_OUT` never appear; `held_out`: the named object is
            one of them.
        clutter: what distractors are: `named` (colours and shapes as above) or `unseen` (objects, colours and textures that no
            training scene shows).
        absent: what is asked for is not there. Success is to lift nothing until time is up; the table holds as many objects.
        relation: the object is named by shape and place ("the cube on the left"); two or three share its shape.
        area: where objects may stand: `middle` is a square of 5 cm, `inner` the inner third of the table's area, `outer` the rest of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["pick", "place"] = "pick"
    distractors: int = Field(1, ge=0, le=7)
    bowls: int | None = Field(None, ge=0, le=len(BOWL_COLORS))
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "orange")
    shapes: tuple[str, ...] = ("cube", "cylinder", "ball")
    paraphrase: bool = False
    pairs: Literal["all", "seen", "held_out"] = "all"
    clutter: Literal["named", "unseen"] = "named"
    absent: bool = False
    relation: bool = False
    area: Literal["all", "middle", "inner", "outer"] = "all"

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        for noun, names, known in (("color", self.colors, COLORS), ("shape", self.shapes, NAMED)):
            for name in names:
                if name not in known:
                    raise UserError(f"tabletop {noun}", f"'{name}' is not known", "a known name", nearest(name, known))
        named = 1 + self.absent if self.clutter == "unseen" else 1 + self.distractors + self.absent
        if len(self.known_pairs) < named:
            found = f"{self.distractors}, but {len(set(self.colors))} colors and {len(set(self.shapes))} shapes"
            found += f" make {len(self.known_pairs)} pairs with pairs='{self.pairs}'" if self.pairs != "all" else ""
            raise UserError("tabletop distractors", found,
                            "a different color or shape for each object", "give more colors or shapes, or fewer distractors")
        if self.pairs == "held_out" and not set(self.known_pairs) & set(HELD_OUT):
            raise UserError("tabletop pairs", "'held_out', but none of them can be made of these colors and shapes",
                            " or ".join(map(" ".join, HELD_OUT)), "add the color and the shape of one of them")
        if self.task == "place" and self.bowls == 0:
            raise UserError("tabletop bowls", "0, but the task is 'place'", "at least 1", "leave bowls out or set bowls=1")
        if self.relation:
            self._check_relation()
        return self

    def _check_relation(self) -> None:
        if self.absent or self.clutter == "unseen" or self.distractors == 0:
            raise UserError("tabletop relation", f"asked for with distractors={self.distractors}, clutter='{self.clutter}', "
                            f"absent={self.absent}", "objects of one shape to choose between",
                            "set distractors to 1 or more, clutter='named' and absent=false")
        if self.pairs == "held_out" or not self.shared_shapes:
            raise UserError("tabletop relation", f"{len(set(self.colors))} colors and pairs='{self.pairs}' leave no shape in two colors",
                            "a shape that two objects can share", "give more colors, and pairs 'all' or 'seen'")

    @property
    def n_bowls(self) -> int:
        return int(self.task == "place") if self.bowls is None else self.bowls

    @property
    def known_pairs(self) -> list[tuple[str, str]]:
        """Every (color, shape) that may be on the table."""
        pairs = [(color, shape) for color in dict.fromkeys(self.colors) for shape in dict.fromkeys(self.shapes)]
        return [pair for pair in pairs if pair not in HELD_OUT] if self.pairs == "seen" else pairs

    @property
    def shared_shapes(self) -> list[str]:
        """Shapes that at least two colors come in."""
        shapes = [shape for _, shape in self.known_pairs]
        return [shape for shape in dict.fromkeys(shapes) if shapes.count(shape) >= 2]


