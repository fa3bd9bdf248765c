"""Published checkpoints and their sizes, for `vla list backbones` and for planning; plain data, importable without torch.

`parameters` counts what the adapter loads: everything but the language-model head, which is tied to the words in most. `linear`
counts the weights in linear layers of the language model, which is what nf4 quantises. `architectures.json` holds the values of
each checkpoint's config.json where they differ from its transformers class (5.23); a test builds every one on the meta device and
recounts. With the head where it is not tied, the totals agree with those on the hub to the digits shown there, for example 2.92 B
(PaliGemma), 3.75 and 8.29 B (Qwen2.5-VL), 2.13, 4.44 and 8.77 B (Qwen3-VL), 256 and 507 M and 2.25 B (SmolVLM).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Bits per weight of nf4 with double quantisation: 4, an 8-bit scale per 64, a 32-bit one per 256 scales (arXiv 2305.14314)."""


@dataclass(frozen=True)
class Published:
    """One checkpoint on the hub. `gated`: its licence must be accepted on its page before it can be downloaded. `made_by`: it is on no
    hub, this command makes it."""

    family: str
    checkpoint: str
    parameters: int
    linear: int
    licence: str
    gated: bool = False
    made_by: str = ""

    @property
    def bf16_gigabytes(self) -> float:
        return 2 * self.parameters / 1e9

    @property
    def nf4_gigabytes(self) -> float:
        """The language model's linear layers in nf4, the rest in float32, as `tuning.quantize=nf4` keeps them."""
        return (4 * (self.parameters - self.linear) + self.linear * NF4_BITS / 8) / 1e9


APACHE, GEMMA, LLAMA = "Apache-2.0", "Gemma terms", "Llama 2 community licence"

PUBLISHED = (
    Published("paligemma", "google/paligemma-3b-pt-224", 2_923_466_480, 1_981_808_640, GEMMA, gated=True),
    Published("paligemma", "google/paligemma2-3b-pt-224", 3_032_242_416, 2_024_275_968, GEMMA, gated=True),
    Published("smolvlm", "HuggingFaceTB/SmolVLM-256M-Instruct", 228_099_648, 106_168_320, APACHE),
    Published("smolvlm", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 460_173_504, 314_572_800, APACHE),
    Published("smolvlm", "HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2_145_859_440, 1_610_612_736, APACHE),
    Published(
        "qwen2_5_vl", "Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976, 2_774_532_096, "Qwen Research (non-commercial)"
    ),
    Published("qwen2_5_vl", "Qwen/Qwen2.5-VL-7B-Instruct", 7_747_169_280, 6_525_288_448, APACHE),
    Published("qwen3_vl", "Qwen/Qwen3-VL-2B-Instruct", 2_127_532_032, 1_409_286_144, APACHE),
    Published("qwen3_vl", "Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808, 3_633_315_840, APACHE),
    Published("qwen3_vl", "Qwen/Qwen3-VL-8B-Instruct", 8_144_793_840, 6_945_767_424, APACHE),
    Published("internvl", "OpenGVLab/InternVL3_5-4B-HF", 4_343_533_056, 3_633_315_840, APACHE),
    Published("llava_onevision", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", 893_675_552, 357_826_560, APACHE),
    Published("florence2", "florence-community/Florence-2-base", 231_414_784, 99_090_432, "MIT"),
    Published("kosmos2", "microsoft/kosmos-2-patch14-224", 1_664_485_376, 1_207_959_552, "MIT"),
    Published("fastvlm", "models/smollm2", 138_956_800, 106_168_320, "Apache-2.0; the eye's package states none",
              made_by="python -m backbones.vlm.smollm2 models/smollm2"),
    Published("gemma3", "google/gemma-3-4b-it", 4_300_079_472, 3_208_642_560, GEMMA, gated=True),
)

OTHERS = (
    Published("openvla", "openvla/openvla-7b", 7_541_237_184, 6_476_005_376, LLAMA),
    Published("openvla_oft", "openvla/openvla-7b", 7_541_237_184, 6_476_005_376, LLAMA),
    Published("pi0", "lerobot/pi0_base", 2_923_335_408, 1_981_808_640, GEMMA),
    Published("tiny", "tabletop (shipped)", 1_494_296, 786_432, APACHE),
)
"""Of the other kinds of backbones, `family` being the kind. π0's action expert, a head, is another 0.31 B."""


def cards(kind: str) -> dict[str, list[dict[str, Any]]]:
    """What `vla list --json` adds to the card of a kind of backbone: its `checkpoints`."""
    found = PUBLISHED if kind == "vlm" else [p for p in OTHERS if p.family == kind]
    rows = [{**vars(p), "bf16_gigabytes": round(p.bf16_gigabytes, 3), "nf4_gigabytes": round(p.nf4_gigabytes, 3)} for p in found]
    return {"checkpoints": rows} if rows else {}


def table() -> Table:
    """The checkpoints for the terminal. Memory is that of the weights alone."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_column("kind or family, and checkpoint", no_wrap=True)
    for name in ("size/B", "bf16/GB", "nf4/GB"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("licence", overflow="fold")
    family = ""
    for p in (*PUBLISHED, *OTHERS):
        if p.family != family:
            family = p.family
            made.add_row(family, style="bold")
        licence = f"{p.licence}, gated" if p.gated else p.licence
        sizes = (p.parameters / 1e9, p.bf16_gigabytes, p.nf4_gigabytes)
        made.add_row(f" {p.checkpoint}", *(_digits(size, places) for size, places in zip(sizes, (2, 1, 1), strict=True)), licence)
    return made


def _digits(value: float, places: int) -> str:
    return f"{value:.{places}f}" if value >= 0.05 else f"{value:.4f}"


def default_checkpoint(family: str) -> str:
    """The smallest published checkpoint of a family."""
    return min((p for p in PUBLISHED if p.family == family), key=lambda p: p.parameters).checkpoint


def architectures() -> dict[str, dict[str, Any]]:
    """Per checkpoint the values of its config.json, from which its architecture can be built without its weights."""
    return json.loads((Path(__file__).parent / "architectures.json").read_text())
