"""The backbone contract: percept, instruction and state in, a `Context` for the action head out.

Shapes: B samples, L positions, K learnable action queries, width D, S state dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from perception.percept import Percept
from robot_io import UserError


@dataclass(frozen=True)
class Inputs:
    """What a backbone will be fed, known before it is built.

    Attributes:
        views: number of camera views V.
        image_size: (height, width) in pixels.
        state_dim: S, 0 if the policy does not read the state.
        token_dim: width of `Percept.tokens`, None if no front-end makes any.
    """

    views: int
    image_size: tuple[int, int]
    state_dim: int
    token_dim: int | None = None


@dataclass(frozen=True)
class Context:
    """What a head conditions on.

    Attributes:
        hidden: `float [B, L, D]`, the last hidden states of the whole sequence.
        mask: `bool [B, L]`, True where a position is real.
        readout: `float [B, K, D]`, the hidden states of the K learnable action queries.
        layers: hidden states or keys and values of every layer, for heads that say they need them (π0's expert).
        continuation: the language model and its cache, for heads that go on decoding from it (OpenVLA's tokens).
    """

    hidden: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]
    readout: Float[Tensor, "b k d"]
    layers: tuple[Any, ...] | None = None
    continuation: Any | None = None

    def repeat(self, n: int) -> Context:
        """Every sample n times, consecutively: `[B, …]` to `[B·n, …]`."""
        return Context(
            hidden=self.hidden.repeat_interleave(n, 0),
            mask=self.mask.repeat_interleave(n, 0),
            readout=self.readout.repeat_interleave(n, 0),
        )


class Backbone(nn.Module):
    """The contract of a backbone. `dim` is D, `queries` is K.

    `vision` names the submodule that sees, so that tuning can freeze it, and `projector` the one between it and the
    language model (it may lie inside `vision`); `lora_targets` is a regular expression over module names for peft;
    `new_modules` names what LoRA must train in full because it was not pretrained. One without `needs_pictures` also works on a percept
    that has neither images nor features.
    """

    dim: int
    queries: int
    vision: str = ""
    projector: str = ""
    lora_targets: str = ""
    new_modules: tuple[str, ...] = ()
    needs_pictures: bool = True

    def load_pretrained(self) -> None:
        """Start from the published weights that the configuration names. Called once, when a new policy is made; a saved
        policy brings its own."""

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilding needs besides weights and recipe (a tokenizer, say) into the new folder `folder`: small text
        files only. A backbone that writes any is given their folder as its constructor's `assets` when a policy is loaded."""

    def enable_checkpointing(self) -> None:
        """Compute the layers' activations again going backward, instead of keeping them (Chen et al., arXiv 1604.06174).

        This default switches on whatever transformers and timm models are inside.

        Raises:
            UserError: there are none.
        """
        inner = [module for module in self.modules() if getattr(module, "supports_gradient_checkpointing", False)]
        for module in inner:
            module.gradient_checkpointing_enable({"use_reentrant": False})
        towers = [module for module in self.modules() if hasattr(module, "set_grad_checkpointing")]
        for module in towers:
            module.set_grad_checkpointing()
        if not inner and not towers:
            raise UserError("train.gradient_checkpointing", f"{type(self).__name__} cannot compute its layers again",
                            "a backbone that can", "set train.gradient_checkpointing=false")

    def see(self, percept: Percept) -> Percept:
        """Fill `percept.features` from its images with the vision tower alone. Independent of words and state, so that
        training may cache it when the tower is frozen."""
        raise NotImplementedError

    def forward(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> Context:
        """Fuse. Calls `see` itself if `percept.features` is None. `state` is normalised."""
        raise NotImplementedError
