"""The published sizes, recounted without weights: every architecture built on the meta device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_vlms import MAKERS
from torch import nn

from backbones import BACKBONES
from backbones.context import Inputs
from backbones.vlm.families import FAMILIES
from backbones.vlm.model import VLM
from backbones.vlm.published import OTHERS, PUBLISHED, Published, architectures, default_checkpoint

ROOT = Path(__file__).parents[2]


def on_meta(published: Published, folder: Path) -> VLM:
    """The backbone at its published size for two views, 8 state entries and tokens of width 1024. The processor is a tiny one."""
    architecture = architectures()[published.checkpoint]
    tiny = next(name for name in MAKERS if MAKERS[name]()[0]["model_type"] == architecture["model_type"])
    config, processor = MAKERS[tiny]()
    processor.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": config["model_type"]}))
    with torch.device("meta"):
        return VLM(VLM.Config(checkpoint=str(folder), weights=None, config=architecture), Inputs(2, (96, 96), 8, 1024))


@pytest.mark.parametrize("published", PUBLISHED, ids=[p.checkpoint.split("/")[1] for p in PUBLISHED])
def test_sizes_and_what_is_new(published: Published, tmp_path: Path):
    backbone = on_meta(published, tmp_path)
    assert backbone.family.name == published.family
    assert sum(p.numel() for p in backbone.model.parameters()) == published.parameters
    language = backbone.model.get_submodule(backbone.family.language)
    assert sum(m.weight.numel() for m in language.modules() if isinstance(m, nn.Linear)) == published.linear
    new = sum(p.numel() for name, p in backbone.named_parameters() if name.split(".")[0] in backbone.new_modules)
    assert 0 < new < 0.01 * published.parameters


def test_every_family_has_a_published_checkpoint():
    assert {p.family for p in PUBLISHED} == set(FAMILIES)
    assert architectures().keys() == {p.checkpoint for p in PUBLISHED}
    for family in FAMILIES:
        assert default_checkpoint(family) in architectures()


def test_memory_of_the_weights():
    seven = next(p for p in PUBLISHED if p.checkpoint == "Qwen/Qwen2.5-VL-7B-Instruct")
    assert seven.bf16_gigabytes == pytest.approx(2 * seven.parameters / 1e9)
    expected = 4 * (seven.parameters - seven.linear) + seven.linear * 4.127 / 8  # 0.127 bits for constants: QLoRA, sec. 3
    assert seven.nf4_gigabytes == pytest.approx(expected / 1e9, rel=1e-3)


def test_the_list_needs_no_torch():
    """`vla list backbones` on a robot PC: names, sizes, licences and memory of every family."""
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; from vla.cli import main; main()"
    shown, plain = (subprocess.run([sys.executable, "-c", code, "list", "backbones", *options], cwd=ROOT, check=True, text=True,
                                   capture_output=True, env={"PATH": "/usr/bin:/bin", "COLUMNS": "100"}).stdout
                    for options in ((), ("--json",)))
    cards = {card["kind"]: card for card in json.loads(plain)}
    for p in PUBLISHED:
        assert p.checkpoint in shown and f"{p.bf16_gigabytes:.1f}" in shown and f"{p.nf4_gigabytes:.1f}" in shown
    assert [c["checkpoint"] for c in cards["vlm"]["checkpoints"]] == [p.checkpoint for p in PUBLISHED]
    for p in OTHERS:
        assert [c["checkpoint"] for c in cards[p.family]["checkpoints"]] == [p.checkpoint] and p.checkpoint in shown
    assert cards.keys() - {"vlm"} == {p.family for p in OTHERS}


def test_sizes_of_the_shipped_backbone():
    """(OpenVLA's and π0's are counted in their own tests.)"""
    tiny = BACKBONES.load("tiny")
    backbone = tiny(tiny.Config(), Inputs(2, (96, 96), 0))
    row = next(p for p in OTHERS if p.family == "tiny")
    assert sum(p.numel() for p in backbone.parameters()) == row.parameters
    linear = sum(m.weight.numel() for name, m in backbone.named_modules() if isinstance(m, nn.Linear) and not name.startswith("eye"))
    assert linear == row.linear
