"""OpenVLA at a tiny size, with the real vocabulary: 1.1 M parameters, nearly all of them embeddings. And its published layout.

The names are written out here and not asked of the model: they are what is on the hub.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from backbones.context import Inputs
from perception.percept import Percept

WORDS = ["<unk>", "<s>", "</s>", "In", ":", "What", "action", "should", "the", "robot", "take", "to", "?", "Out",
         "pick", "up", "cup", "and", "it", "away", "put"]

VISION = {
    "first": {"name": "vit_large_patch14_reg4_dinov2", "options": {"embed_dim": 24, "depth": 3, "num_heads": 2},
              "mean": (0.484375, 0.455078125, 0.40625), "std": (0.228515625, 0.2236328125, 0.224609375)},
    "second": {"name": "vit_so400m_patch14_siglip_224", "options": {"embed_dim": 16, "depth": 3, "num_heads": 2},
               "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "size": 28,
}
LANGUAGE = {"dim": 16, "inner": 32, "layers": 2, "heads": 2}
PATCHES = 4

TOWER = ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"]
BLOCK = ["norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
         "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]
POOL = ["latent", "q.weight", "q.bias", "kv.weight", "kv.bias", "proj.weight", "proj.bias", "norm.weight", "norm.bias",
        "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]
LAYER = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
         "mlp.down_proj", "input_layernorm", "post_attention_layernorm"]
PUBLISHED = [
    *(f"vision_backbone.featurizer.{name}" for name in ["cls_token", "reg_token", *TOWER]),
    *(f"vision_backbone.featurizer.blocks.{i}.{name}"
      for i in range(3) for name in [*BLOCK, "ls1.scale_factor", "ls2.scale_factor"]),
    *(f"vision_backbone.fused_featurizer.{name}" for name in TOWER),
    *(f"vision_backbone.fused_featurizer.blocks.{i}.{name}" for i in range(3) for name in BLOCK),
    *(f"vision_backbone.fused_featurizer.attn_pool.{name}" for name in POOL),
    *(f"projector.fc{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")),
    "language_model.model.embed_tokens.weight",
    *(f"language_model.model.layers.{i}.{name}.weight" for i in range(2) for name in LAYER),
    "language_model.model.norm.weight",
    "language_model.lm_head.weight",
]


def tokenizer_folder(folder: Path) -> Path:
    """A word-level tokenizer.json that begins with `<s>`, as the published one does."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def options(folder: Path, **more) -> dict:
    return {"weights": None, "tokenizer": str(folder), "dtype": "float32", "vision": VISION, "language": LANGUAGE, **more}


def openvla(folder: Path, seed: int = 0, assets: Path | None = None, token_dim: int | None = None, **more):
    from backbones.openvla.openvla import OpenVLA

    torch.manual_seed(seed)
    inputs = Inputs(views=1, image_size=(28, 28), state_dim=0, token_dim=token_dim)
    return OpenVLA(OpenVLA.Config(**options(folder, **more)), inputs, assets).eval()


def oft(folder: Path, seed: int = 0, state_dim: int = 3, views: int = 2, **more):
    from backbones.openvla.oft import OpenVLAOFT

    torch.manual_seed(seed)
    inputs = Inputs(views=views, image_size=(28, 28), state_dim=state_dim)
    return OpenVLAOFT(OpenVLAOFT.Config(**options(folder, **{"queries": 6, **more})), inputs).eval()


def percept(batch: int, views: int = 1, seed: int = 0) -> Percept:
    return Percept(images=torch.rand(batch, views, 3, 28, 28, generator=torch.Generator().manual_seed(seed)))


def published_tensors(vlm: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of `vlm` under the names on the hub."""
    own = vlm.state_dict()
    return {name: own[name.replace("scale_factor", "gamma")].clone() for name in PUBLISHED}


def publish(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1, **config) -> Path:
    """Write what the hub has: configuration, tokenizer, and one file or several with their index."""
    tokenizer_folder(folder)
    text = {"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064, "num_attention_heads": LANGUAGE["heads"]}
    (folder / "config.json").write_text(json.dumps({
        "model_type": "openvla", "image_sizes": [28, 28], "text_config": text,
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"], **config}))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    names, where = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, folder / file)
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder
