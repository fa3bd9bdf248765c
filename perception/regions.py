"""What grounding found: for each thing that the instruction is about, where it is in every view.

`object_centric` makes a `Regions`; `geometric` and `lift3d` read it, and so may any front-end after them. Things are slots of
a fixed meaning, so that a policy can tell the object to grasp from the bowl to put it in.

Shapes: B observations, V views, R slots (one per role, in the order of `roles`), H×W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from robot_io import UserError

TARGET, CONTAINER, ROBOT = "target", "container", "robot"
ROLES = (TARGET, CONTAINER, ROBOT)


@dataclass(frozen=True)
class Regions:
    """
    Attributes:
        masks: `bool [B, V, R, H, W]`, all False where a thing is not seen.
        scores: `float [B, V, R]` in [0, 1], how sure the grounding is of each mask; 0 where the mask is empty.
        roles: R names out of `ROLES`.
        phrases: per observation the R phrases that were looked for; empty strings for roles the instruction does not have.
    """

    masks: Bool[Tensor, "b v r h w"]
    scores: Float[Tensor, "b v r"]
    roles: tuple[str, ...]
    phrases: list[tuple[str, ...]]

    def of(self, role: str) -> Bool[Tensor, "b v h w"]:
        """The masks of one role."""
        return self.masks[:, :, self.roles.index(role)]

    @property
    def union(self) -> Bool[Tensor, "b v h w"]:
        """Everything that was selected."""
        return self.masks.any(2)


def require_regions(regions: Regions | None, wanted_by: str) -> Regions:
    """`regions`, or a `UserError` in the name of the front-end that cannot do without."""
    if regions is None:
        raise UserError(f"front-end '{wanted_by}'", "nothing has been grounded before it", "regions to work on",
                        "put {kind: object_centric} before it in the recipe's perception")
    return regions
