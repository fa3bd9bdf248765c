"""π0's action expert (Black et al., arXiv 2410.24164, sec. IV and app. B): flow matching over a chunk of actions.

A small Gemma with its own weights; in every layer it attends to the keys and values of the same layer of π0's VLM
(`backbones.pi0`), to the state (one token) and, without a causal order, to all actions of the chunk. It is trained on
x_t = t·noise + (1 - t)·actions to predict noise - actions, with t from a Beta distribution that favours noise, and sampled by
Euler steps from t = 1 to 0. All arithmetic is that of transformers' `PI0ForConditionalGeneration`, whose `forward` runs here.

Shapes: B samples, n draws, T = horizon, A action dimensions; inside, actions are zero-padded to 32.
In: `layers` and `continuation` of `backbones.pi0`. Out: `[B, n, T, A]`, normalised.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, PI0Config, PI0ForConditionalGeneration, PI0Model
from transformers.models.pi0.modeling_pi0 import PI0ActionTimeEmbedding, PI0PreTrainedModel

from backbones.context import Context
from backbones.pi0 import ExpertInput
from backbones.pi0_checkpoint import PUBLISHED, architecture, load
from heads.diffusion import hold_last
from heads.flow_matching import VelocityField, euler
from heads.flow_prefix import Kept, differentiable
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig


class ExpertModel(PI0Model):
    """`PI0Model` without its VLM, which is never called once the cache of the prefix is given."""

    def __init__(self, config: PI0Config) -> None:
        PI0PreTrainedModel.__init__(self, config)
        config.dit_config.vocab_size = 1  # not the VLM's: 263 M parameters would be made only to be dropped
        self.dit = AutoModel.from_config(config.dit_config)
        self.dit.embed_tokens = None  # never called: state and actions come as embeddings
        self.post_init()


class Expert(PI0ForConditionalGeneration):
    """`PI0ForConditionalGeneration` without its VLM; parameters bear the published names."""

    def __init__(self, config: PI0Config) -> None:
        PI0PreTrainedModel.__init__(self, config)
        self.model = ExpertModel(config)
        self.embed_action_time = PI0ActionTimeEmbedding(config)
        self.action_out_proj = nn.Linear(config.dit_config.hidden_size, config.max_action_dim)
        self.post_init()


class PI0(Head):
    """The action expert. See the module's head.

    `noise [B, n, T, A]` fixes the draw; as `[B, n, T, 32]` it also fixes the padding, which else always gets the same noise.
    """

    supports = frozenset({"noise", "prefix"})
    sampling = frozenset({"steps", "prefix_weight"})

    class Config(ComponentConfig):
        kind: Literal["pi0"] = "pi0"
        checkpoint: str | None = Field(PUBLISHED, description="local folder or hub id; null: random weights")
        architecture: dict[str, Any] = Field({}, description="fields of PI0Config that are not as published; as in the backbone")
        steps: int = Field(10, ge=1, description="Euler steps of a sample")
        prefix_weight: float = Field(5.0, ge=0, description="β of real-time chunking (`heads.flow_prefix`)")

    def __init__(self, config: Config, output: Output) -> None:
        """Raises `UserError` for more action dimensions than π0 has, or a backbone of another width than its VLM."""
        super().__init__()
        self.config, self.output = config, output
        self.sizes = architecture(config.architecture, chunk_size=output.horizon, loss_reduction="none")
        if output.action_dim > self.sizes.max_action_dim:
            raise UserError("head pi0", f"{output.action_dim} action dimensions", f"at most {self.sizes.max_action_dim}",
                            "take another head for this robot")
        if output.context_dim != self.sizes.vlm_config.text_config.hidden_size:
            raise UserError("head pi0", f"a backbone of width {output.context_dim}",
                            f"{self.sizes.vlm_config.text_config.hidden_size}, that of π0's VLM",
                            "set backbone.kind=pi0, with the same `architecture` in backbone and head")
        self.expert = Expert(self.sizes)

    def load_pretrained(self) -> None:
        """Start from `config.checkpoint`. Raises `UserError` if it is not there or not wholly a π0."""
        if self.config.checkpoint is not None:
            model = self.expert.model
            load(self.config.checkpoint, self.sizes, {
                "model.dit": model.dit, "embed_action_time": self.expert.embed_action_time,
                "action_out_proj": self.expert.action_out_proj,
            }, "head.checkpoint")

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Mean squared error of the velocity over valid steps and, as in openpi, all 32 dimensions; `own` counts the robot's."""
        prefix = self._prefix(context)
        clean = F.pad(hold_last(actions, valid), (0, self.sizes.max_action_dim - self.output.action_dim))
        cache = DynamicCache(self._layers(context, 1))
        error = self.expert(**prefix, past_key_values=cache, actions=clean.to(self.expert.dtype)).loss
        counted = valid.sum().clamp(min=1)
        total, own = (torch.where(valid, part.mean(-1), 0.0).sum() / counted
                      for part in (error, error[..., : self.output.action_dim]))
        return Loss(total, {"mse": total.detach(), "own": own.detach()})

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """Integrate n chunks per sample from noise in `config.steps` Euler steps. The VLM is not run again."""
        self.refuse_unsupported(guide=guide, condition=condition)
        noise = self._noise(len(context.mask), n, noise).flatten(0, 1)
        integrate = partial(euler, steps=self.config.steps)
        if prefix is None:
            chunk = integrate(self._field(context, n), noise)
        else:
            shape = (len(context.mask), n, *noise.shape[1:])
            padded = replace(prefix, actions=F.pad(prefix.actions, (0, noise.shape[-1] - prefix.actions.shape[-1])))
            with differentiable(Kept.of(padded, shape, noise, self.config.prefix_weight), noise) as (kept, noise):
                chunk = kept.follow(self._field(context, n), noise, integrate)
        return chunk[..., : self.output.action_dim].unflatten(0, (-1, n)).float()

    def _field(self, context: Context, n: int) -> VelocityField:
        """The expert's velocity, for every sample n times."""
        seen = {name: value.repeat_interleave(n, 0) for name, value in self._prefix(context).items()}
        layers = self._layers(context, n)

        def velocity(chunk: Tensor, time: float) -> Tensor:
            cache = DynamicCache(layers)  # a new one each time: the expert appends its own keys and values to it
            times = torch.full((len(chunk),), time, device=chunk.device)
            return self.expert(**seen, past_key_values=cache, noise=chunk, timestep=times).logits

        return velocity

    def _prefix(self, context: Context) -> dict[str, Tensor]:
        """State and mask as the expert wants them.

        Raises:
            UserError: the context is not of π0's backbone.
        """
        if context.layers is None or not isinstance(context.continuation, ExpertInput):
            raise UserError("head pi0", "this backbone gives no keys and values of its layers", "those of π0's VLM",
                            "set backbone.kind=pi0, or choose a head that reads this backbone (`vla list heads`)")
        return {"state": context.continuation.state.to(self.expert.dtype), "attention_mask": context.mask.long()}

    def _layers(self, context: Context, n: int) -> list[tuple[Tensor, ...]]:
        """The prefix's keys and values, every sample n times."""
        return [tuple(t.to(self.expert.dtype).repeat_interleave(n, 0) for t in layer) for layer in context.layers]

    def _noise(self, batch: int, n: int, given: Tensor | None) -> Float[Tensor, "b n t 32"]:
        device, dtype = self.expert.device, self.expert.dtype
        full = (batch, n, self.output.horizon, self.sizes.max_action_dim)
        if given is None:
            return torch.randn(full, device=device, dtype=dtype)
        if given.shape == full:
            return given.to(device, dtype)
        if given.shape != (*full[:3], self.output.action_dim):
            raise UserError("noise", f"shape {tuple(given.shape)}", f"{(*full[:3], self.output.action_dim)}: samples, draws, "
                            f"horizon, action dimensions (or all {full[3]})", "give one chunk of noise for every draw")
        padding = torch.randn(full[2], full[3] - given.shape[-1], generator=torch.Generator().manual_seed(0))
        return torch.cat([given.to(device, dtype), padding.to(device, dtype).expand(batch, n, -1, -1)], -1)
