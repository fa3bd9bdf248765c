"""π0 at toy size: the real transformers classes, a word-level tokenizer, and both halves with the same weights as the whole."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PI0Config, PI0ForConditionalGeneration

from backbones.context import Inputs
from backbones.pi0 import PI0 as Backbone
from heads.head import Output
from heads.pi0 import PI0 as Head

WORDS = ("<pad>", "<eos>", "<bos>", "<unk>", "\n", "pick", "up", "the", "red", "blue", "cube", "please", "quickly")
IMAGE = 20
DECODER = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
ARCHITECTURE = {
    "vlm_config": {
        "model_type": "paligemma", "image_token_id": IMAGE, "projection_dim": 16,
        "text_config": {"model_type": "gemma", "hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, **DECODER},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                          "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_use_head": False},
    },
    "dit_config": {"model_type": "gemma", "hidden_size": 12, "intermediate_size": 20, **DECODER},
    "max_state_dim": 8,
    "max_action_dim": 6,
}  # fmt: skip
OUTPUT = Output(horizon=5, action_dim=3, context_dim=16, queries=0)
INPUTS = Inputs(views=2, image_size=(28, 28), state_dim=4)
PROMPTS = ["pick up the red cube", "pick the cube please quickly"]


def save_tokenizer(folder: Path) -> Path:
    """`tokenizer.json` with a handful of words, `<bos>` among them."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([AddedToken("<bos>", normalized=False), AddedToken("\n", normalized=False)])
    folder.mkdir(parents=True, exist_ok=True)
    words.save(str(folder / "tokenizer.json"))
    return folder


def whole(output: Output = OUTPUT) -> PI0ForConditionalGeneration:
    """transformers' model with weights large enough that everything matters."""
    torch.manual_seed(0)
    model = PI0ForConditionalGeneration(PI0Config(**ARCHITECTURE, chunk_size=output.horizon)).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, std=0.05 if name.endswith("norm.weight") else 0.3)
    return model


def options(**changes) -> dict:
    return {"checkpoint": None, "architecture": ARCHITECTURE, **changes}


def halves(model: PI0ForConditionalGeneration, tokenizer: Path, inputs: Inputs = INPUTS,
           output: Output = OUTPUT) -> tuple[Backbone, Head]:
    """The same weights as `model`, in a backbone and a head."""
    backbone = Backbone(Backbone.Config(**options(tokenizer=str(tokenizer), dtype="float32")), inputs).eval()
    head = Head(Head.Config(**options()), output).eval()
    backbone.vlm.load_state_dict(model.model.vlm.state_dict())
    words = "model.dit.embed_tokens.weight"
    head.expert.load_state_dict({name: value for name, value in model.state_dict().items()
                                 if not name.startswith("model.vlm.") and name != words})
    return backbone, head
