"""Grounding DINO's published .pth weights in the names that transformers gives them.

    python -m perception.grounding.dino_weights groundingdino_swint_ogc.pth bert-base-uncased/ OUT

writes a folder that `kind: grounding_dino` loads. Both implementations then agree on the same picture and phrases (tested at a
tiny size). The differences are of names alone, but for fused projections: Swin's `qkv` and torch's `in_proj` are three there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from torch import Tensor

SWIN = "model.backbone.conv_encoder.model."
RENAMES = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r"^backbone\.0\.patch_embed\.proj\.", f"{SWIN}swin.embeddings.patch_embeddings.projection."),
    (r"^backbone\.0\.patch_embed\.norm\.", f"{SWIN}swin.embeddings.norm."),
    (r"^backbone\.0\.norm(\d)\.", lambda match: f"{SWIN}hidden_states_norms.stage{int(match[1]) + 1}."),
    (r"^backbone\.0\.layers\.", f"{SWIN}swin.encoder.layers."),
    (r"\.attn\.relative_position_bias_table$", ".attention.relative_position_bias.relative_position_bias_table"),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.o_proj."),
    (r"(blocks\.\d+)\.attn\.([qkv])\.", r"\1.attention.\2_proj."),
    (r"^bert\.", "model.text_backbone."),
    (r"^feat_map\.", "model.text_projection."),
    (r"^input_proj\.", "model.input_proj_vision."),
    (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
    (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
    (r"^transformer\.(level_embed|enc_output|enc_output_norm)\b", r"model.\1"),
    (r"^transformer\.encoder\.text_layers\.(\d+)\.", r"model.encoder.layers.\1.text_enhancer_layer."),
    (r"^transformer\.encoder\.fusion_layers\.(\d+)\.", r"model.encoder.layers.\1.fusion_layer."),
    (r"^transformer\.encoder\.layers\.(\d+)\.", r"model.encoder.layers.\1.deformable_layer."),
    (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
    (r"^transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
    (r"^transformer\.decoder\.", "model.decoder."),
    (r"(text_enhancer_layer)\.norm1\.", r"\1.layer_norm_before."),
    (r"(text_enhancer_layer)\.norm2\.", r"\1.layer_norm_after."),
    (r"(fusion_layer)\.gamma_v$", r"\1.vision_param"),
    (r"(fusion_layer)\.gamma_l$", r"\1.text_param"),
    (r"(fusion_layer)\.layer_norm_v\.", r"\1.layer_norm_vision."),
    (r"(fusion_layer)\.layer_norm_l\.", r"\1.layer_norm_text."),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)v_proj\.", r"\1vision_proj."),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)l_proj\.", r"\1text_proj."),
    (r"(deformable_layer)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"(deformable_layer)\.norm2\.", r"\1.final_layer_norm."),
    (r"(decoder\.layers\.\d+)\.norm1\.", r"\1.encoder_attn_layer_norm."),
    (r"(decoder\.layers\.\d+)\.norm2\.", r"\1.self_attn_layer_norm."),
    (r"(decoder\.layers\.\d+)\.norm3\.", r"\1.final_layer_norm."),
    (r"(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"(decoder\.layers\.\d+)\.ca_text\.", r"\1.encoder_attn_text."),
    (r"(decoder\.layers\.\d+)\.catext_norm\.", r"\1.encoder_attn_text_layer_norm."),
    (r"((?:deformable_layer|text_enhancer_layer|decoder\.layers\.\d+)\.)linear([12])\.", r"\1fc\2."),
)]
FUSED = re.compile(r"^(.*\.)(?:qkv\.|in_proj_)(weight|bias)$")
UNUSED = re.compile(r"relative_position_index$|position_ids$|^bert\.pooler\.")


def to_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors by transformers' names."""
    renamed = {}
    for name, tensor in weights.items():
        if UNUSED.search(name):
            continue
        if (fused := FUSED.match(name)) is None:
            renamed[_rename(name)] = tensor
            continue
        parts = ("q", "k", "v") if ".qkv." in name else ("query", "key", "value")
        for part, piece in zip(parts, tensor.chunk(3), strict=True):
            renamed[_rename(f"{fused[1]}{part}.{fused[2]}")] = piece.clone()
    return renamed


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = pattern.sub(replacement, name)
    return name


def convert(pth: Path, text_encoder: Path, out: Path) -> None:
    """Write a published Swin-T or Swin-B checkpoint as a transformers folder."""
    from transformers import (
        AutoTokenizer,
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    from perception.grounding.groundingdino_py import ARCHITECTURES, plain_weights
    from perception.grounding.published import copy_weights, load_pth

    large = "swinb" in pth.name
    swin = SwinConfig(image_size=384, embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=12,
                      out_indices=[2, 3, 4]) if large else SwinConfig(out_indices=[2, 3, 4])
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin, text_config=BertConfig.from_pretrained(text_encoder)))
    url = ARCHITECTURES["swin_b" if large else "swin_t"][1]
    weights = to_transformers(plain_weights(load_pth(pth, "checkpoint", url), "checkpoint"))
    copy_weights(model, shared_with_swin(model, weights), f"checkpoint '{pth}'", f"fetch {url}")
    model.save_pretrained(out)
    GroundingDinoProcessor(GroundingDinoImageProcessor(), AutoTokenizer.from_pretrained(text_encoder)).save_pretrained(out)


def shared_with_swin(model: object, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """With transformers' own final norm of Swin, which detection never uses and the authors' model does not have."""
    names = [f"{SWIN}swin.layernorm.{kind}" for kind in ("weight", "bias")]
    own = model.state_dict()
    return {name: own[name] for name in names if name in own} | weights


if __name__ == "__main__":
    convert(*(Path(argument) for argument in sys.argv[1:4]))
