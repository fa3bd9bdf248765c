"""The claims that this project has put to the test, in the order of the specifications. Add one when its table is measured."""

from __future__ import annotations

from vla.claims import chunked_rl, heads, perception
from vla.claims.claim import Claim

VLM4VLA, OPENVLA, OBEYED = "VLM4VLA (arXiv 2601.03309)", "OpenVLA (arXiv 2406.09246)", "OBEYED-VLA (arXiv 2512.22519)"
TINY = "`tiny`, pretrained on renderings of this table; 100 demonstrations, 400 steps"
CLEAN = "trained on 100 clean demonstrations, 800 steps, `tiny` with a frozen eye"

CLAIMS: tuple[Claim, ...] = (
    Claim("O1", OBEYED, "With explicit grounding, a policy of clean demonstrations keeps at least 70 % of its clean success among seven "
          "distractors.", "clutter", {"policy": "grounded", "regime": "distractors 7"}, {"policy": "grounded", "regime": "clean"},
          ratio=0.7, setting=CLEAN),
    Claim("O2", OBEYED, "Among seven distractors explicit grounding beats raw RGB.", "clutter",
          {"policy": "grounded", "regime": "distractors 7"}, {"policy": "raw RGB", "regime": "distractors 7"}, setting=CLEAN),
    Claim("O3", OBEYED, "An absent target is rejected in at least 90 % of trials.", "clutter", {"policy": "grounded", "regime": "absent"},
          bound=0.9, setting=CLEAN),
    Claim("O4", OBEYED, "Another background costs the grounded policy at most 10 points.", "clutter",
          {"policy": "grounded", "regime": "background all"}, {"policy": "grounded", "regime": "clean"}, margin=-0.1, setting=CLEAN),
    Claim("O5", OBEYED, "On another background explicit grounding beats raw RGB.", "clutter",
          {"policy": "grounded", "regime": "background all"}, {"policy": "raw RGB", "regime": "background all"}, setting=CLEAN),
    Claim("M1", f"{VLM4VLA}, sec. 4", "A pretrained start beats the same architecture from scratch.", "backbones",
          {"start": "pretrained", "tuned": "all of it"}, {"start": "scratch", "tuned": "all of it"}, setting=TINY),
    Claim("M2", f"{VLM4VLA}, sec. 4", "Freezing the vision tower costs success.", "backbones",
          {"start": "pretrained", "tuned": "all of it"}, {"start": "pretrained", "tuned": "all but the eye"}, setting=TINY),
    Claim("A3", f"{OPENVLA}, table 1", "LoRA is no more than 10 points behind full fine-tuning.", "backbones",
          {"start": "pretrained", "tuned": "LoRA, eye frozen"}, {"start": "pretrained", "tuned": "all of it"}, margin=-0.1, setting=TINY),
    Claim("A3", f"{OPENVLA}, table 1", "Full fine-tuning beats tuning the last layer only.", "backbones",
          {"start": "pretrained", "tuned": "all of it"}, {"start": "pretrained", "tuned": "last layer only"}, setting=TINY),
    *perception.CLAIMS,
    *heads.CLAIMS,
    *chunked_rl.CLAIMS,
)
