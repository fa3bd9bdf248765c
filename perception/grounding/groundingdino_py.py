"""Grounding DINO (arXiv 2303.05499) through the authors' own package, `groundingdino-py`, and their .pth checkpoints.

    WEIGHTS/groundingdino_swint_ogc.pth         (or groundingdino_swinb_cogcoor.pth)
    WEIGHTS/bert-base-uncased/                  config.json and the tokenizer's files; its weights are in the .pth

The package was written for transformers 4 and builds its text encoder around three methods that `BertModel` has lost since.
`TextEncoder` supplies them, and is handed to the package while it builds a model; transformers itself is left alone. Pictures go
through it one by one: in a batch, the package gives captions each other's text masks.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from perception.grounding.candidates import best_of, nothing
from perception.grounding.captions import caption_of, phrase_scores, tokens_of
from perception.grounding.published import Published, copy_weights, load_processor, load_pth, require_file
from perception.stages import Detections, Picture
from robot_io import UserError
from robot_io.registry import ComponentConfig

RELEASES = "https://github.com/IDEA-Research/GroundingDINO/releases/download"
BERT = "google-bert/bert-base-uncased"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ARCHITECTURES = {
    "swin_t": ("GroundingDINO_SwinT_OGC", f"{RELEASES}/v0.1.0-alpha/groundingdino_swint_ogc.pth"),
    "swin_b": ("GroundingDINO_SwinB_cfg", f"{RELEASES}/v0.1.0-alpha2/groundingdino_swinb_cogcoor.pth"),
}
COMPUTED = ("position_ids", "token_type_ids")  # buffers that older versions of transformers saved
_building = threading.Lock()


class GroundingDinoPy(nn.Module):
    """See the module's text. Deformable attention runs as plain torch, so it needs no compiled extension."""

    class Config(ComponentConfig):
        kind: Literal["groundingdino_py"] = "groundingdino_py"
        weights: str = Field("models/groundingdino", description="folder of the .pth checkpoint and of the text encoder")
        architecture: Literal["swin_t", "swin_b"] = "swin_t"
        settings: dict[str, Any] = Field({}, description="changes of the architecture's own configuration")
        swin: dict[str, Any] = Field({}, description="changes of its Swin backbone")
        shortest: int = Field(800, ge=1, description="pictures are resized to this shorter side")
        longest: int = Field(1333, ge=1, description="but not beyond this longer side")
        candidates: int = Field(8, ge=1, description="boxes kept for each phrase")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        thing, url = "detector groundingdino_py", ARCHITECTURES[config.architecture][1]
        path = require_file(Path(config.weights).expanduser() / url.rsplit("/", 1)[-1], thing, url)
        beside = path.parent / "bert-base-uncased"
        text = str(beside) if beside.is_dir() else BERT
        from transformers import AutoTokenizer, BertConfig

        self._tokenizer = load_processor(AutoTokenizer, text, f"{thing}: text encoder", BERT,
                                         (("config.json",), ("tokenizer.json", "vocab.txt")))
        model = build(config, BertConfig.from_pretrained(text), self._tokenizer)
        copy_weights(model, plain_weights(load_pth(path, thing, url), thing), f"{thing} '{path}'", f"fetch {url}", ignored=COMPUTED)
        self.model = Published(model)

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        return [self._one(picture, names) if names else nothing() for picture, names in zip(pictures, phrases, strict=True)]

    def _one(self, picture: Picture, phrases: Sequence[str]) -> Detections:
        from groundingdino.util.misc import nested_tensor_from_tensor_list

        inputs = nested_tensor_from_tensor_list([self._prepare(picture)]).to(self.model.device)
        output = self.model(inputs, captions=[caption_of(phrases)])
        scores = phrase_scores(output["pred_logits"][0], tokens_of(self._tokenizer, phrases))
        return best_of(output["pred_boxes"][0], scores, picture.shape[:2], per_phrase=self.config.candidates)

    def _prepare(self, picture: Picture) -> Tensor:
        """Resized as in the authors' demo, and normalised, `float [3, H', W']`."""
        from PIL import Image
        from torchvision.transforms import functional

        height, width = picture.shape[:2]
        scale = min(self.config.shortest / min(height, width), self.config.longest / max(height, width))
        size = (round(width * scale), round(height * scale))
        image = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        return functional.normalize(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255, MEAN, STD)


def build(config: GroundingDinoPy.Config, bert: Any, tokenizer: Any) -> nn.Module:
    """The package's model with random weights."""
    from groundingdino.models.GroundingDINO import groundingdino as package
    from groundingdino.models.GroundingDINO.backbone.backbone import Joiner
    from groundingdino.models.GroundingDINO.backbone.position_encoding import build_position_encoding
    from groundingdino.models.GroundingDINO.backbone.swin_transformer import build_swin_transformer

    own = vars(importlib.import_module(f"groundingdino.config.{ARCHITECTURES[config.architecture][0]}"))
    own = {name: value for name, value in own.items() if not name.startswith("__")} | dict.fromkeys(("use_checkpoint", "use_transformer_ckpt"), False)
    settings = SimpleNamespace(**own | config.settings)
    swin = build_swin_transformer(settings.backbone, int(settings.backbone.split("_")[-2]), dilation=False,
                                  out_indices=tuple(settings.return_interm_indices), **config.swin)
    backbone = Joiner(swin, build_position_encoding(settings))
    backbone.num_channels = swin.num_features[4 - len(settings.return_interm_indices):]
    names = ("num_queries", "query_dim", "num_feature_levels", "nheads", "two_stage_type", "dec_pred_bbox_embed_share",
             "two_stage_bbox_embed_share", "two_stage_class_embed_share", "num_patterns", "sub_sentence_present", "max_text_len")
    text = SimpleNamespace(get_tokenlizer=lambda _: tokenizer, get_pretrained_language_model=lambda _: text_encoder(bert))
    with _building:  # the package's constructor reaches for its text encoder itself: for that moment it is ours
        theirs, package.get_tokenlizer = package.get_tokenlizer, text
        try:
            return package.GroundingDINO(backbone, package.build_transformer(settings), iter_update=True,
                                         text_encoder_type="", **{name: getattr(settings, name) for name in names}).eval()
        finally:
            package.get_tokenlizer = theirs


def text_encoder(bert: Any) -> nn.Module:
    """A `BertModel` with what the package expects of one."""
    from transformers import BertModel
    from transformers.models.bert.modeling_bert import BertEmbeddings

    class TextEmbeddings(BertEmbeddings):
        """Takes the length of a cache, which is always 0 here, under its old name too (transformers 5.24 renamed it)."""

        def forward(self, *inputs: Any, past_key_values_length: int = 0, **named: Any) -> Tensor:
            return super().forward(*inputs, **named)

    class TextEncoder(BertModel):
        """The three methods of transformers 4 (masks are additive: 0 may be attended to, a huge negative number not)."""

        def get_extended_attention_mask(self, attention_mask: Tensor, *_: Any) -> Tensor:
            heads = attention_mask[:, None] if attention_mask.dim() == 3 else attention_mask[:, None, None]
            return (~heads.bool()).to(self.dtype) * torch.finfo(self.dtype).min

        invert_attention_mask = get_extended_attention_mask

        def get_head_mask(self, head_mask: None, *_: Any) -> None:
            """No head is ever left out."""

    bert._attn_implementation = "eager"
    encoder = TextEncoder(bert)
    encoder.embeddings.__class__ = TextEmbeddings
    return encoder


def plain_weights(checkpoint: dict[str, Any], thing: str) -> dict[str, Tensor]:
    """The tensors of a published file, without the prefix of the wrapper they were trained in.

    Raises:
        UserError: it holds no model.
    """
    weights = checkpoint.get("model", checkpoint)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(thing, "the checkpoint holds no weights", "a dictionary with 'model'", "fetch the published file again")
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}
