"""`kind: vlm`: any vision-language model of transformers as the backbone, in the way of VLM4VLA (arXiv 2601.03309, sec. 3).

The model's own processor turns every view and the instruction, in its own chat format, into its own inputs; behind them come

    soft tokens [N]   `Percept.tokens`, projected into the embedding space
    state       [1]   projected as well (`state: token`), or written into the prompt (`state: text`)
    queries     [K]   learnable action queries, zero at first: the last hidden states there are the readout

and the model's own forward does the rest: merging pictures, M-RoPE, deep-stacked visual features, attention masks. Nothing is
copied from it and no class exists per family; `families` holds the few names that differ. An encoder-decoder (Florence-2) reads
the prompt in its encoder, and soft tokens, state and queries in its decoder. Only the two projections and the queries are new.

Shapes: B samples, V views, L positions, N soft tokens, K queries, D the model's width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from backbones.context import Backbone, Context, Inputs
from backbones.vlm import loading
from backbones.vlm.families import FAMILIES, Family, family_of
from backbones.vlm.prompts import Prompt, encode, pack
from backbones.vlm.published import default_checkpoint
from backbones.vlm.splice import recorded, replayed, spliced
from backbones.vlm.tower import flatten, restore
from perception.percept import Percept
from robot_io import UserError
from robot_io.errors import nearest
from robot_io.registry import ComponentConfig

STATE_BINS = 256
STATE_RANGE = 3.0
"""The state as text: 256 bins as in π0.5 (arXiv 2504.16054, sec. IV), here over ±3, which holds z-scores as well."""
GREY = 0.25
"""A picture that nobody looks at. Not black or mid-grey: some processors take all-zero pixels for padding."""


class VLM(Backbone):
    """Published vision-language model + state + soft tokens → K readouts. See the module's head."""

    new_modules = ("query", "state_projection", "token_projection")

    class Config(ComponentConfig):
        kind: Literal["vlm"] = "vlm"
        family: str | None = Field(
            None, description="see `vla list backbones`; null: what the checkpoint's config.json says"
        )
        checkpoint: str | None = Field(
            None, description="local folder or hub id; null: the family's first published one"
        )
        revision: str | None = Field(None, description="branch, tag or commit on the hub")
        weights: Literal["published"] | None = Field(
            "published", description="null: the same architecture from scratch"
        )
        config: dict[str, Any] | None = Field(
            None,
            description="your own architecture, as in a config.json; needs weights=null. The checkpoint gives the processor",
        )
        dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the model; what is new is float32")
        attention: Literal["sdpa", "eager"] | None = Field(None, description="null: sdpa where the model has it")
        queries: int = Field(1, ge=1, description="K learnable action queries")
        prompt: str | None = Field(None, description="with {instruction} in it; null: the family's own")
        image_size: int | None = Field(
            None, ge=28, description="side in pixels, for families that take any; null: their default"
        )
        state: Literal["token", "text", "none"] = Field("token", description="how the robot's state is read")
        gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")

        @model_validator(mode="after")
        def _something_to_build(self) -> VLM.Config:
            if self.family is None and self.checkpoint is None:
                raise UserError(
                    "backbone vlm",
                    "neither a family nor a checkpoint",
                    "one of them",
                    f"set backbone.family ({', '.join(FAMILIES)}) or backbone.checkpoint",
                )
            if self.family is not None and self.family not in FAMILIES:
                raise UserError(
                    f"backbone family '{self.family}'", "not known", "a family", nearest(self.family, FAMILIES)
                )
            if self.config is not None and self.weights is not None:
                raise UserError(
                    "backbone.config",
                    "an architecture of your own has no published weights",
                    "weights=null",
                    "set backbone.weights=null, or leave backbone.config out",
                )
            if self.prompt is not None and "{instruction}" not in self.prompt:
                raise UserError(
                    "backbone.prompt", f"'{self.prompt}'", "{instruction} in it", "say where the instruction goes"
                )
            return self

        @property
        def source(self) -> loading.Source:
            return loading.Source(self.checkpoint or default_checkpoint(self.family), self.revision)

    def __init__(self, config: Config, inputs: Inputs, assets: Path | None = None) -> None:
        """Build the architecture, its weights being random or (if `load_pretrained` or a saved policy brings them) undefined.

        Args:
            assets: a folder written by `save_assets`, instead of the checkpoint.

        Raises:
            UserError: a checkpoint that is not there, of no known family, or that cannot take the pictures.
        """
        super().__init__()
        self.config, self.queries, self.inputs = config, config.queries, inputs
        source = config.source if assets is None else loading.Source(str(assets))
        settings = source.config() if config.config is None or assets is not None else loading.from_dict(config.config)
        self.family: Family = family_of(settings.model_type, config.family)
        self.processor = source.processor()
        self.model = loading.build(
            settings, self.dtype, config.attention, initialise=assets is None and config.weights is None
        )
        self.dim = self.model.get_input_embeddings().embedding_dim
        self.query = nn.Parameter(torch.zeros(config.queries, self.dim))
        reads_state = config.state == "token" and inputs.state_dim
        self.state_projection = nn.Linear(inputs.state_dim, self.dim) if reads_state else None
        self.token_projection = nn.Linear(inputs.token_dim, self.dim) if inputs.token_dim else None
        self.vision, self.projector = f"model.{self.family.vision}", f"model.{self.family.projector}"
        self.lora_targets = self.family.lora_targets
        self._check_image_size()
        self._prepare()

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.config.dtype)

    def _check_image_size(self) -> None:
        asked, family = self.config.image_size, self.family
        if family.image_size is None:
            if asked is not None:
                raise UserError(
                    "backbone.image_size",
                    f"{asked}",
                    f"null: '{family.name}' scales pictures to its own size",
                    "leave it out, or choose a checkpoint published for another size",
                )
            return
        cell = self.processor.image_processor.patch_size * self.processor.image_processor.merge_size
        if (asked or family.image_size) % cell:
            raise UserError(
                "backbone.image_size",
                f"{asked or family.image_size}",
                f"a multiple of {cell} pixels, its cells",
                f"set backbone.image_size={max(1, (asked or family.image_size) // cell) * cell}",
            )

    def _prepare(self) -> None:
        if self.config.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})

    def load_pretrained(self) -> None:
        """Fill in the published weights (`weights: published`).

        Raises:
            UserError: no weights there, or not exactly those of the architecture.
        """
        if self.config.weights is None:
            return
        settings, self.model = self.model.config, None  # frees the memory of the undefined weights first
        self.model = self.config.source.weights(settings, self.dtype, self.config.attention)
        self._prepare()

    def save_assets(self, folder: Path) -> None:
        """What rebuilding needs besides weights and recipe: the model's configuration and the processor. Text files only."""
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def see(self, percept: Percept) -> Percept:
        """The vision tower alone, before the projector: `features [B, V, N, D']`."""
        pictures = self._pictures(percept)
        return percept.replace(features=flatten(self._look(pictures), self.family.sees, *pictures.shape[:2]))

    def _look(self, pictures: Float[Tensor, "b v 3 h w"]) -> Any:
        """The tower's own output object."""
        pixels = encode(self.processor, self.family, pictures, [""] * len(pictures)).pixels
        with recorded(self.model.get_submodule(self.family.vision)) as said:
            self.model.get_image_features(**pixels)
        return said[0]

    def _pictures(self, percept: Percept) -> Float[Tensor, "b v 3 h w"]:
        """At the size the family wants, if it takes any; blank ones if only their features are known."""
        images = percept.images
        if images is None:
            size = (*percept.features.shape[:2], 3, *self.inputs.image_size)
            images = percept.features.new_full(size, GREY, dtype=torch.float32)
        if self.family.image_size is None:
            return images
        side = self.config.image_size or self.family.image_size
        flat = rearrange(images, "b v c h w -> (b v) c h w")
        scaled = F.interpolate(flat, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        return rearrange(scaled, "(b v) c h w -> b v c h w", v=images.shape[1])

    def forward(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> Context:
        prompt = encode(self.processor, self.family, self._pictures(percept), self._words(percept, instructions, state))
        self._check_length(prompt)
        soft, real = self._soft(percept, state)
        if percept.features is None:
            return self._fuse(prompt, soft, real)
        tower = self.model.get_submodule(self.family.vision)
        with replayed(tower, self._restored(percept.features)):
            return self._fuse(prompt, soft, real)

    def _check_length(self, prompt: Prompt) -> None:
        """Learned positions end; those of the families with rotary ones go on beyond any prompt here."""
        length, longest = prompt.mask.shape[1], self.model.config.get_text_config().max_position_embeddings
        if length > longest:
            raise UserError(
                "backbone vlm",
                f"pictures and words fill {length} positions",
                f"at most {longest}",
                "use fewer cameras (data.cameras=[…]), less text, or a checkpoint that reads more",
            )

    def _restored(self, features: Float[Tensor, "b v n d"]) -> Any:
        """The tower's output object for cached features; how it is laid out is learnt by looking at one blank sample."""
        with torch.no_grad():
            layout = self._look(self._pictures(Percept(features=features[:1])))
        return restore(layout, self.family.sees, features.to(self.model.get_input_embeddings().weight.dtype))

    def _words(self, percept: Percept, instructions: list[str], state: Tensor) -> list[str]:
        template = self.config.prompt or self.family.prompt
        words = [template.replace("{instruction}", instruction) for instruction in instructions]
        if percept.text:
            words = [f"{word} {text}" for word, text in zip(words, percept.text, strict=True)]
        if self.config.state == "text" and self.inputs.state_dim:
            words = [f"{word} State: {bins}" for word, bins in zip(words, _in_words(state), strict=True)]
        return words

    def _soft(self, percept: Percept, state: Tensor) -> tuple[Float[Tensor, "b e d"], Bool[Tensor, "b e"]]:
        """What follows the prompt, and where it is real: soft tokens, state, queries."""
        batch = len(state)
        parts, real = [], []
        if self.token_projection is not None:
            parts.append(self.token_projection(percept.tokens))
            real.append(percept.token_mask)
        if self.state_projection is not None:
            parts.append(self.state_projection(state)[:, None])
        parts.append(self.query.expand(batch, -1, -1))
        soft = torch.cat(parts, 1)
        certain = soft.shape[1] - sum(mask.shape[1] for mask in real)
        real.append(torch.ones(batch, certain, dtype=torch.bool, device=soft.device))
        return soft, torch.cat(real, 1)

    def _fuse(self, prompt: Prompt, soft: Tensor, real: Tensor) -> Context:
        if self.family.decoder:
            return self._fuse_in_decoder(prompt, soft, real)
        columns, mask = self._continued(prompt.columns, prompt.mask, soft, real)
        slots = columns.pop("slots")
        with spliced(self.model.get_input_embeddings(), slots, soft):
            output = self.model(**columns, attention_mask=mask.long(), **prompt.pixels, use_cache=False)
        hidden = output.last_hidden_state.float()
        return Context(hidden=hidden, mask=mask, readout=self._readout(hidden, slots, soft))

    def _fuse_in_decoder(self, prompt: Prompt, soft: Tensor, real: Tensor) -> Context:
        """The encoder reads the prompt, the decoder its start token and what follows the prompt elsewhere."""
        ids = prompt.columns["input_ids"]
        start = ids.new_full((len(ids), 1), self.model.config.get_text_config().decoder_start_token_id)
        columns, mask = self._continued({"input_ids": start}, torch.ones_like(start, dtype=torch.bool), soft, real)
        slots = columns["slots"]
        with spliced(self.model.get_submodule(self.family.decoder).get_input_embeddings(), slots, soft):
            output = self.model(
                **prompt.columns,
                attention_mask=prompt.mask.long(),
                **prompt.pixels,
                use_cache=False,
                decoder_input_ids=columns["input_ids"],
                decoder_attention_mask=mask.long(),
            )
        read, said = output.encoder_last_hidden_state.float(), output.last_hidden_state.float()
        return Context(
            hidden=torch.cat([read, said], 1),
            mask=torch.cat([prompt.mask, mask], 1),
            readout=self._readout(said, slots, soft),
        )

    def _continued(
        self, columns: dict[str, Tensor], mask: Tensor, soft: Tensor, real: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The columns with a position for each soft embedding appended and packed, and `slots`: which one, or -1.

        Such a position bears the last real word's id, which no model takes for a picture or for padding.
        """
        last = columns["input_ids"].gather(1, mask.sum(1, keepdim=True) - 1)
        fill = {name: torch.full_like(last, self.family.continuing.get(name, 0)) for name in columns} | {
            "input_ids": last
        }
        longer = {
            name: torch.cat([column, fill[name].expand(-1, soft.shape[1])], 1) for name, column in columns.items()
        }
        order = torch.arange(soft.shape[1], device=soft.device).expand(len(soft), -1)
        longer["slots"] = torch.cat([torch.full_like(columns["input_ids"], -1), order], 1)
        return pack(longer, torch.cat([mask, real], 1))

    def _readout(self, hidden: Tensor, slots: Tensor, soft: Tensor) -> Float[Tensor, "b k d"]:
        """The hidden states of the last K soft embeddings, wherever packing has put them."""
        queries = torch.arange(soft.shape[1] - self.queries, soft.shape[1], device=slots.device)
        where = (slots[:, None] == queries[:, None]).int().argmax(-1)
        return hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))


def _in_words(state: Float[Tensor, "b s"]) -> list[str]:
    scaled = (state.clamp(-STATE_RANGE, STATE_RANGE) / STATE_RANGE + 1) / 2
    return [" ".join(map(str, row)) for row in (scaled * (STATE_BINS - 1)).round().int().tolist()]
