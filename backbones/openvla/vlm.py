"""Prismatic `dinosiglip-224px+7b`, the vision-language model inside OpenVLA: towers, projector and Llama.

Parameters are named as in the published checkpoints (`weights.py` has the one exception). 7,541,237,184 of them at the
published size: 303 M DINOv2, 428 M SigLIP, 71 M projector, 6739 M Llama.

Shapes: B samples, V views, N patches per view, L positions, width D.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from shutil import copyfile
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from backbones.continuation import dtype_of, run
from backbones.openvla.prompt import BEGIN, PADDING, STOP, encode
from backbones.openvla.vision import FusedTowers, Projector, Vision
from backbones.openvla.weights import TOKENIZER, check_is_openvla, load_named, locate, names, tensors, tokenizer_file
from perception.percept import Percept
from robot_io.registry import ComponentConfig

LORA_TARGETS = "|".join((
    r"vlm\.vision_backbone\.(fused_)?featurizer\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])",
    r"vlm\.projector\.fc[123]",
    r"vlm\.language_model\.model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
))


class Language(BaseModel):
    """Sizes of the Llama. `epsilon` is that of its norms, 1e-6 in the published configuration (Llama 2's own is 1e-5)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(default=4096, ge=1)
    inner: int = Field(default=11008, ge=1)
    layers: int = Field(default=32, ge=1)
    heads: int = Field(default=32, ge=1)
    rows: int = Field(default=32064, gt=PADDING, description="of the embedding; the vocabulary is 32000")
    epsilon: float = Field(default=1e-6, gt=0)


class VLMConfig(ComponentConfig):
    """What both backbones need to know. The defaults are the published sizes."""

    weights: str | None = Field("openvla/openvla-7b", description="a folder or a hub id; null to start from scratch")
    tokenizer: str | None = Field(None, description="a folder or a hub id with tokenizer.json; null for that of the weights")
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="of the weights; take float32 to tune all of them")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")
    vision: Vision = Vision()
    language: Language = Language()

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


class VLM(nn.Module):
    """Pictures and prompts to a sequence of embeddings; `read` and `read_both_ways` run Llama over it."""

    def __init__(self, config: VLMConfig, assets: Path | None = None) -> None:
        """Random weights if the configuration names none to load; otherwise undefined until they are loaded.

        Args:
            assets: a folder written by `save_assets`, which has the tokenizer.
        """
        from transformers import AutoModelForCausalLM, LlamaConfig
        from transformers.initialization import no_init_weights

        super().__init__()
        self.config, self.assets, language = config, assets, config.language
        with nullcontext() if config.weights is None and assets is None else no_init_weights():
            self.vision_backbone = FusedTowers(config.vision, config.torch_dtype)
            self.projector = Projector(self.vision_backbone.dim, language.dim, config.torch_dtype)
            self.language_model = AutoModelForCausalLM.from_config(LlamaConfig(
                vocab_size=language.rows, hidden_size=language.dim, intermediate_size=language.inner,
                num_hidden_layers=language.layers, num_attention_heads=language.heads, rms_norm_eps=language.epsilon,
                bos_token_id=BEGIN, eos_token_id=STOP, pad_token_id=PADDING), dtype=config.torch_dtype)
        if config.gradient_checkpointing:
            self.language_model.gradient_checkpointing_enable({"use_reentrant": False})
            for tower in (self.vision_backbone.featurizer, self.vision_backbone.fused_featurizer):
                tower.set_grad_checkpointing()

    @cached_property
    def tokenizer(self) -> Path:
        """Its `tokenizer.json`, looked for when first needed."""
        return self.assets / TOKENIZER if self.assets else tokenizer_file(self.config.tokenizer, self.config.weights)

    def save_assets(self, folder: Path) -> None:
        """What rebuilding needs besides weights and recipe: the tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        copyfile(self.tokenizer, folder / TOKENIZER)

    def load_published(self) -> Path:
        """Fill in the weights that the configuration names.

        Returns:
            the folder they are in.

        Raises:
            UserError: not to be had, of another model, or a tensor missing, left over or of another shape.
        """
        folder = locate(self.config.weights, "backbone.weights")
        check_is_openvla(folder, self.config)
        _ = self.tokenizer  # if it is missing, say so before reading 15 GB
        load_named(self, names(folder), tensors(folder), str(folder))
        return folder

    def see(self, percept: Percept) -> Percept:
        """Fill `percept.features` `[B, V, N, 2176]` with the towers' patches."""
        views = percept.images.shape[1]
        features = self.vision_backbone(rearrange(percept.images, "b v c h w -> (b v) c h w")).float()
        return percept.replace(features=rearrange(features, "(b v) n d -> b v n d", v=views))

    def prefix(self, percept: Percept, instructions: list[str],
               soft: list[tuple[Tensor, Tensor]]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Embeddings and mask of `<s>`, the patches of all views, `soft` tokens, and the prompt.

        Args:
            soft: embeddings `[B, M, D]` with their masks `[B, M]`, in order.
        """
        if percept.features is None:
            percept = self.see(percept)
        if percept.text:
            instructions = [f"{i} {t}" for i, t in zip(instructions, percept.text, strict=True)]
        ids, words = (t.to(percept.features.device) for t in encode(instructions, self.tokenizer))
        dtype = dtype_of(self.language_model)
        patches = self.projector(rearrange(percept.features, "b v n d -> b (v n) d").to(dtype))
        parts = [self.tokens(BEGIN, len(ids)), patches, *(embeds.to(dtype) for embeds, _ in soft),
                 self.language_model.get_input_embeddings()(ids)]
        masks = [words.new_ones(len(ids), 1 + patches.shape[1]), *(mask for _, mask in soft), words]
        return torch.cat(parts, 1), torch.cat(masks, 1)

    def tokens(self, token: int, batch: int) -> Float[Tensor, "b 1 d"]:
        """The embedding of one token, for every sample."""
        embed = self.language_model.get_input_embeddings()
        return embed(torch.full((batch, 1), token, device=embed.weight.device))

    def read_both_ways(self, embeds: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """The last hidden states where every position attends to every real one, later ones too (arXiv 2502.19645, sec. 4).

        A mask of four axes is what transformers takes as it stands, so nothing of it is patched.
        """
        dtype = dtype_of(self.language_model)
        hidden_keys = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
        whole = hidden_keys[:, None, None].expand(-1, 1, mask.shape[1], -1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return self.language_model.get_decoder()(inputs_embeds=embeds, attention_mask=whole, position_ids=positions,
                                                 use_cache=False).last_hidden_state

    def read(self, embeds: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> tuple[Tensor, object | None]:
        """The last hidden states of a causal pass, and its cache (None under gradient checkpointing, which allows none)."""
        from transformers import DynamicCache

        checkpointing = self.training and self.language_model.get_decoder().gradient_checkpointing
        cache = None if checkpointing else DynamicCache(config=self.language_model.config)
        return run(self.language_model, embeds, mask, cache), cache
