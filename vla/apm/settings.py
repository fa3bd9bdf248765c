"""Everything that decides what text-to-action model comes out: what it reads, what it is, how it is taught."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError

from vla.overrides import apply_overrides, explain
from vla.recipe import Section

Summary = Literal["oracle", "image", "pooled", "none"]


class Model(Section):
    """A small model from scratch with the project's own words, or a checkpoint with its own."""

    architecture: Literal["t5", "gpt2"] = Field("t5", description="of a model from scratch: encoder-decoder, or decoder alone")
    checkpoint: str | None = Field(None, description="folder or hub id of a seq2seq or causal model (BART, T5, GPT-2, …), instead")
    dim: int = Field(96, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class Imitation(Section):
    """Cross-entropy on the expert's action string (arXiv 2306.05696, sec. 3)."""

    demonstrations: int = Field(800, ge=1, description="episodes of the expert, in the layouts of training")
    steps: int = Field(800, ge=1)
    batch_size: int = Field(48, ge=1)
    learning_rate: float = Field(4e-3, gt=0)
    warmup: int = Field(40, ge=0)


class Reinforce(Section):
    """REINFORCE (Williams, 1992) as in the paper: discounted returns of a sparse reward, normalised over the batch; held near the imitator."""

    updates: int = Field(40, ge=0)
    episodes: int = Field(32, ge=2, description="per update")
    learning_rate: float = Field(3e-4, gt=0)
    gamma: float = Field(0.99, gt=0, le=1)
    kl: float = Field(0.05, ge=0, description="weight of the divergence from the imitator")


class Settings(Section):
    """`summary` is what the model is taught with: the perfect summary, a captioner's words, the captioner's pooled cells, or nothing."""

    summary: Summary = "oracle"
    captioner: str = Field("household", description="weights of the embedded captioner that reads pictures")
    model: Model = Model()
    imitation: Imitation = Imitation()
    reinforce: Reinforce = Reinforce()
    seed: int = Field(0, ge=0)

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]


def load_settings(data: dict[str, Any] | None = None, overrides: list[str] | None = None) -> Settings:
    """Defaults, or `data` as `model_dump` gave it, with `path=value` overrides.

    Raises:
        UserError: an unknown key or a value out of range.
    """
    merged = apply_overrides(data or Settings().model_dump(mode="json"), overrides or [])
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise explain(error, Settings) from None
