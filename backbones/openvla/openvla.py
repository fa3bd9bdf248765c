"""`openvla`: one picture and a sentence, then action tokens one after the other (Kim et al., arXiv 2406.09246).

No state, no history. The readout (K = 1) is the hidden state of the last position of the prompt, the one that predicts the first
action token; `continuation` goes on from there: `head.kind=vocabulary` is OpenVLA's own way to act.

    sequence   [B, L, D]   <s>, 256 patches, extra tokens of the percept, prompt; L is about 280, D = 4096
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from backbones.context import Backbone, Context, Inputs
from backbones.continuation import CausalContinuation
from backbones.openvla.prompt import STOP, VOCABULARY
from backbones.openvla.vlm import LORA_TARGETS, VLM, VLMConfig
from perception.percept import Percept
from robot_io import UserError


class OpenVLA(Backbone):
    """See the module's text. `queries` is 1."""

    vision, projector = "vlm.vision_backbone", "vlm.projector"
    lora_targets = LORA_TARGETS
    new_modules = ("token_projection",)

    class Config(VLMConfig):
        kind: Literal["openvla"] = "openvla"

    def __init__(self, config: Config, inputs: Inputs, assets: Path | None = None) -> None:
        super().__init__()
        if inputs.views != 1:
            raise UserError("backbone openvla", f"{inputs.views} camera views", "the one that its weights know",
                            "choose a camera: data.cameras=[…]; or take backbone.kind=openvla_oft")
        if inputs.state_dim:
            raise UserError("backbone openvla", f"a state of {inputs.state_dim} numbers", "none: its weights know no state",
                            "set data.state=false, or take backbone.kind=openvla_oft")
        self.config, self.dim, self.queries = config, config.language.dim, 1
        self.vlm = VLM(config, assets)
        self.token_projection = nn.Linear(inputs.token_dim, self.dim) if inputs.token_dim else None

    def load_pretrained(self) -> None:
        """Start from `config.weights`. Raises `UserError`: not to be had, of another size, or a name too many or too few."""
        if self.config.weights is not None:
            self.vlm.load_published()

    def save_assets(self, folder: Path) -> None:
        """The tokenizer."""
        self.vlm.save_assets(folder)

    def see(self, percept: Percept) -> Percept:
        return self.vlm.see(percept)

    def forward(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> Context:
        soft = [] if self.token_projection is None else [(self.token_projection(percept.tokens), percept.token_mask)]
        prefix, mask = self.vlm.prefix(percept, instructions, soft)
        hidden, cache = self.vlm.read(prefix, mask)
        going_on = CausalContinuation(self.vlm.language_model, VOCABULARY, STOP, prefix, mask, hidden[:, -1], cache)
        return Context(hidden.float(), mask, hidden[:, -1:].float(), continuation=going_on)
