"""π0 (Black et al., arXiv 2410.24164), the half that reads: PaliGemma runs over pictures and words, once per observation.

It is the VLM of transformers' `PI0ForConditionalGeneration`; the other half, the action expert, is the head `heads.pi0`. In every
layer the expert attends to the keys and values that this half leaves behind, so they are what it hands over, not hidden states.
State and actions belong to the expert alone: pictures and words are read without them. The two train together, end to end.

    pictures  [B, V, 3, H, W] → SigLIP → N tokens a view; a camera that is not there takes no place, as if it were masked
    words     <bos> instruction \\n
    prefix    [B, L, D], L = V·N + words (+ soft tokens of front-ends); attention is bidirectional, positions count what is real
    layers    per layer (keys, values) [B, kv heads, L, head dim]; `continuation` is the state, zero-padded to 32
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel
from transformers.initialization import no_init_weights

from backbones.context import Backbone, Context, Inputs
from backbones.openvla.weights import locate
from backbones.pi0_checkpoint import PUBLISHED, architecture, load
from perception.percept import Percept
from robot_io import UserError
from robot_io.registry import ComponentConfig

TOKENIZER = "tokenizer.json"
PALIGEMMA = "google/paligemma-3b-pt-224"
"""Whose tokenizer π0 uses. `lerobot/pi0_base` brings none."""
BOS = "<bos>"


@dataclass(frozen=True)
class ExpertInput:
    """What the action expert needs besides the layers: `state float [B, 32]`, normalised and zero-padded."""

    state: Float[Tensor, "b s"]


class PI0(Backbone):
    """Pictures and words → keys and values of every layer. See the module's head.

    There are no action queries (`queries = 0`): a head that wants readouts is for `kind: vlm`, which runs the same PaliGemma.
    """

    queries = 0
    vision = "vlm.vision_tower"
    projector = "vlm.multi_modal_projector"
    lora_targets = (
        r"vlm\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
        r"|vlm\.multi_modal_projector\.linear"
        r"|vlm\.vision_tower\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"
    )
    new_modules = ("token_projection",)

    class Config(ComponentConfig):
        kind: Literal["pi0"] = "pi0"
        checkpoint: str | None = Field(PUBLISHED, description="local folder or hub id; null: random weights")
        architecture: dict[str, Any] = Field({}, description="fields of PI0Config that are not as published; as in the head")
        tokenizer: str | None = Field(
            None, description=f"folder or hub id with tokenizer.json; null: the checkpoint's, or {PALIGEMMA}'s"
        )
        max_words: int = Field(48, ge=2, description="tokens of an instruction, with what front-ends add to it")
        dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the VLM")

    def __init__(self, config: Config, inputs: Inputs, assets: Path | None = None) -> None:
        """Build the VLM: random where there is no checkpoint, else undefined until `load_pretrained` or a saved policy fills it.

        Args:
            assets: a folder written by `save_assets`, instead of the tokenizer that `config` names.

        Raises:
            UserError: no tokenizer, a wrong architecture, or a state too long for it.
        """
        super().__init__()
        self.config, self.sizes = config, architecture(config.architecture)
        if inputs.state_dim > self.sizes.max_state_dim:
            raise UserError("backbone pi0", f"a state of {inputs.state_dim} numbers", f"at most {self.sizes.max_state_dim}",
                            "choose some: data.state=[…]")
        self.words = _tokenizer(assets / TOKENIZER if assets is not None else tokenizer_file(config))
        published = config.checkpoint is not None or assets is not None
        with no_init_weights() if published else nullcontext():
            self.vlm = AutoModel.from_config(self.sizes.vlm_config, dtype=self.dtype)
        self.dim = self.sizes.vlm_config.text_config.hidden_size
        self.token_projection = nn.Linear(inputs.token_dim, self.dim) if inputs.token_dim else None

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.config.dtype)

    def load_pretrained(self) -> None:
        """Start from `config.checkpoint`. Raises `UserError` if it is not there or not wholly a π0."""
        if self.config.checkpoint is not None:
            load(self.config.checkpoint, self.sizes, {"model.vlm": self.vlm}, "backbone.checkpoint")

    def save_assets(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER).write_text(self.words.to_str(), encoding="utf-8")

    def see(self, percept: Percept) -> Percept:
        side = self.sizes.vlm_config.vision_config.image_size
        pixels = pad_to_square(rearrange(percept.images, "b v c h w -> (b v) c h w"), side)
        seen = self.vlm.vision_tower((2 * pixels - 1).to(self.dtype)).last_hidden_state
        return percept.replace(features=rearrange(seen, "(b v) n d -> b v n d", v=percept.images.shape[1]))

    def forward(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> Context:
        if percept.features is None:
            percept = self.see(percept)
        embeds, mask = self.prefix(percept, instructions)
        output = self.vlm(
            inputs_embeds=embeds, attention_mask=mask.long(), position_ids=mask.cumsum(1) - 1,
            token_type_ids=torch.zeros_like(mask, dtype=torch.long), use_cache=True,
        )  # fmt: skip
        hidden = output.last_hidden_state.float()
        return Context(
            hidden=hidden, mask=mask, readout=hidden[:, :0],
            layers=tuple((layer.keys, layer.values) for layer in output.past_key_values.layers),
            continuation=ExpertInput(F.pad(state, (0, self.sizes.max_state_dim - state.shape[1]))),
        )  # fmt: skip

    def prefix(self, percept: Percept, instructions: list[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """What the VLM reads, and which of it is real: views, words (padded on the right), soft tokens of front-ends."""
        seen = self.vlm.multi_modal_projector(percept.features.to(self.dtype))
        pictures = rearrange(seen, "b v n d -> b (v n) d")
        ids, real = self.encode(_prompts(instructions, percept.text))
        ids, real = ids.to(pictures.device), real.to(pictures.device)
        parts = [pictures, self.vlm.get_input_embeddings()(ids)]
        masks = [torch.ones(pictures.shape[:2], dtype=torch.bool, device=pictures.device), real]
        if self.token_projection is not None:
            parts.append(self.token_projection(percept.tokens.float()).to(pictures))
            masks.append(percept.token_mask)
        return torch.cat(parts, 1), torch.cat(masks, 1)

    def encode(self, prompts: list[str]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Token ids of `<bos>prompt\\n`, padded on the right to the longest, and which are real.

        Raises:
            UserError: a prompt longer than `config.max_words` tokens, which openpi would cut short.
        """
        bos = self.words.token_to_id(BOS)
        encoded = [[bos, *self.words.encode(f"{prompt}\n", add_special_tokens=False).ids] for prompt in prompts]
        longest = max(map(len, encoded))
        if longest > self.config.max_words:
            prompt = max(prompts, key=len)
            raise UserError("instruction", f"'{prompt[:60]}…' has {longest} tokens", f"at most {self.config.max_words}",
                            "shorten it, or raise backbone.max_words")
        ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in encoded])
        return ids, torch.arange(longest)[None] < torch.tensor([len(tokens) for tokens in encoded])[:, None]


def pad_to_square(images: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 side side"]:
    """Shrink or enlarge without distortion, the rest black: what π0 was trained on (openpi's `resize_with_pad`)."""
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    scale = side / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    images = F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(images, (left, side - width - left, top, side - height - top))


def tokenizer_file(config: PI0.Config) -> Path:
    """The tokenizer that `config` names.

    Raises:
        UserError: it names none, or it is not there.
    """
    if config.tokenizer is None and config.checkpoint is not None:
        path = locate(config.checkpoint, "backbone.checkpoint", (TOKENIZER,)) / TOKENIZER
        if path.is_file():
            return path
    path = locate(config.tokenizer or PALIGEMMA, "backbone.tokenizer", (TOKENIZER,)) / TOKENIZER
    if not path.is_file():
        fetch = f"hf download {PALIGEMMA} {TOKENIZER} --local-dir DIR"
        raise UserError(f"π0's tokenizer {path}", "no such file", f"tokenizer.json of {PALIGEMMA}",
                        f"accept its licence on its page, run `{fetch}` and set backbone.tokenizer=DIR")
    return path


def _tokenizer(path: Path) -> Tokenizer:
    expected, remedy = f"tokenizer.json of {PALIGEMMA}", "set backbone.tokenizer to its folder"
    try:
        words = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise UserError(f"tokenizer {path}", f"cannot be read ({error})", expected, remedy) from None
    if words.token_to_id(BOS) is None:
        raise UserError(f"tokenizer {path}", f"has no '{BOS}'", expected, remedy)
    return words


def _prompts(instructions: list[str], texts: list[str]) -> list[str]:
    """The words of each sample in one line, cleaned as openpi does."""
    prompts = [f"{i} {t}" for i, t in zip(instructions, texts, strict=True)] if texts else instructions
    return [prompt.strip().replace("_", " ").replace("\n", " ") for prompt in prompts]
