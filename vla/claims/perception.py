"""The claims of the papers behind `perception`: VO-DP, Lift3D, and SUM with APM."""

from __future__ import annotations

from collections.abc import Mapping

from vla.claims.claim import Claim

VO_DP, LIFT3D, SUM = "VO-DP (arXiv 2510.15530)", "Lift3D (arXiv 2411.18623)", "SUM and APM (arXiv 2306.05696)"
ADAPT3R = "Adapt3R (arXiv 2503.04877)"
TABLETOP = "tabletop, 100 clean demonstrations, 1,200 steps, small networks of this project's own, points in the hand's frame"
PROBE = "the encoder alone with a small head, 400 steps of 16, says where the one object is; no policy"
FIRST_STAGE = "the embedded transformer, 1,000 steps of 64 rendered pictures, LoRA; a linear probe of 200 new pictures"
DEPTH, DISTILLED = "depth, affordance, no distillation", "depth, affordance"
HOUSEHOLD = "a household of up to five rooms, text alone, a T5 of width 64 from scratch"

FUSED, SEMANTIC, GEOMETRIC = "semantic and geometric, fused", "semantic alone", "geometric alone"
PICTURES, SCRATCH = "pictures, pretrained eye", "pictures, eye and trunk from scratch"
LIFTED, UNPLACED, NEW = (f"lift3d, {position}, pretrained weights" for position in ("looked up", "no position", "new position"))
RECONSTRUCTED, RANDOM = "lift3d, looked up, MAE weights", "lift3d, looked up, random weights"
LOOKED_UP = "lift3d, looked up"


def _policy(name: str, regime: str = "clean") -> Mapping[str, str]:
    return {"policy": name, "regime": regime}


def _on_the_table(id: str, source: str, statement: str, more: Mapping[str, str], less: Mapping[str, str], margin: float = 0.0) -> Claim:
    return Claim(id, source, statement, "perception", more, less, margin=margin, setting=TABLETOP)


def _probed(id: str, statement: str, more: str, less: str) -> Claim:
    """`more` has the larger error."""
    return Claim(id, LIFT3D, statement, "lift3d", {"encoder": more}, {"encoder": less}, metric="error_mm_clean", setting=PROBE)


def _first_stage(id: str, statement: str, metric: str, more: str, less: str | None = None) -> Claim:
    return Claim(id, LIFT3D, statement, "lift3d_mae", {"first stage": more}, None if less is None else {"first stage": less}, metric=metric,
                 bound=0.0 if less is None else None, setting=FIRST_STAGE)


def _acting(id: str, statement: str, metric: str, more: Mapping[str, str], less: Mapping[str, str] | None, bound: float | None = None) -> Claim:
    return Claim(id, SUM, statement, "apm", {"layouts": "all"} | more, None if less is None else {"layouts": "all"} | less, metric=metric,
                 bound=bound, setting=HOUSEHOLD)


IMITATED, REINFORCED = ({"taught": "oracle", "stage": stage, "told": "oracle", "says": "drawn"} for stage in ("imitation", "reinforce"))
CELLS, BLIND = ({"taught": summary, "stage": "imitation", "told": summary, "says": "drawn"} for summary in ("pooled", "none"))
WORDS = {**CELLS, "taught": "image", "told": "image, by household"}
MAJORITY, UNSEEN = {"stage": "majority class"}, {"layouts": "unseen"}

CLAIMS: tuple[Claim, ...] = (
    _on_the_table("V1", VO_DP, "Fused tokens beat semantic tokens alone.", _policy(FUSED), _policy(SEMANTIC)),
    _on_the_table("V1", VO_DP, "Fused tokens beat geometric tokens alone.", _policy(FUSED), _policy(GEOMETRIC)),
    _on_the_table("V2", VO_DP, "Fused tokens beat pictures learnt from scratch.", _policy(FUSED), _policy(SCRATCH)),
    _on_the_table("V3", VO_DP, "Fused tokens are no more than 10 points behind DP3, which has true depth.", _policy(FUSED), _policy("dp3"), -0.1),
    _on_the_table("V6", VO_DP, "Another table costs fused tokens at most 10 points.", _policy(FUSED, "background table"), _policy(FUSED), -0.1),
    _on_the_table("V6", VO_DP, "Other light costs fused tokens at most 10 points.", _policy(FUSED, "background lighting"), _policy(FUSED), -0.1),
    _on_the_table("V6", VO_DP, "A new colour costs fused tokens more than another table.", _policy(FUSED, "background table"),
                  _policy(FUSED, "held-out pair")),
    _first_stage("L1", "Reconstructing depth makes features tell depth better than before.", "gained_mm", DEPTH),
    _first_stage("L1", "Reconstructing depth gains more than reconstructing pictures.", "gained_mm", DEPTH, "pictures, affordance, no distillation"),
    _on_the_table("L1", LIFT3D, "Policies that begin after the first stage, without its distillation, beat those that begin before it.",
                  _policy(RECONSTRUCTED), _policy(LIFTED)),
    _first_stage("L2", "Masking what the instruction is about gains more than masking at random.", "gained_mm", DEPTH,
                 "depth, random mask, no distillation"),
    _first_stage("L3", "Distillation keeps features nearer to the original's.", "drift", DEPTH, DISTILLED),
    _first_stage("L3", "Distillation makes features tell depth better.", "gained_mm", DISTILLED, DEPTH),
    _on_the_table("L4", LIFT3D, "Looked-up positions beat newly learnt ones.", _policy(LIFTED), _policy(NEW)),
    _on_the_table("L4", LIFT3D, "Looked-up positions beat none.", _policy(LIFTED), _policy(UNPLACED)),
    _probed("L4", "Looked-up positions beat newly learnt ones: a smaller error.", "lift3d, new position", LOOKED_UP),
    _probed("L4", "Looked-up positions beat none: a smaller error.", "lift3d, no position", LOOKED_UP),
    _probed("L5", "Six planes beat one: a smaller error.", "lift3d, looked up on one plane", LOOKED_UP),
    _on_the_table("L6", LIFT3D, "A transformer of pictures beats one of random weights.", _policy(LIFTED), _policy(RANDOM)),
    _on_the_table("L6", LIFT3D, "A lifted cloud beats pictures.", _policy(LIFTED), _policy(PICTURES)),
    *(_on_the_table("L7", LIFT3D, f"{change} a lifted cloud beats pictures.", _policy(LIFTED, regime), _policy(PICTURES, regime))
      for change, regime in (("Of a new colour", "held-out pair"), ("On another table", "background table"),
                             ("In other light", "background lighting"), ("With a moved camera", "camera"))),
    _on_the_table("A3R", ADAPT3R, "Points in the hand's frame beat points in the base's, with DP3's encoder.", _policy("dp3"),
                  _policy("dp3 in the base frame")),
    _acting("E1", "Words, perfect ones even, reach more goals than the captioner's cells as one vector.", "success", IMITATED, CELLS),
    _acting("E1", "On unseen layouts the captioner's words reach more goals than its cells as one vector, each taught with its own.", "success",
            WORDS | UNSEEN, CELLS | UNSEEN),
    _acting("E1", "The captioner's cells as one vector reach more goals than a model that sees nothing.", "success", CELLS, BLIND),
    _acting("E5", "Taught and told with perfect words it reaches more goals than with the captioner's.", "success", IMITATED, WORDS),
    _acting("E5", "A perfect summary reaches more goals than a model that sees nothing.", "success", IMITATED, BLIND),
    _acting("E5", "A perfect summary: more of what is tried can be done than by a model that sees nothing.", "executability_percent", IMITATED,
            BLIND),
    _acting("E2", "REINFORCE after imitation reaches more goals.", "success", REINFORCED, IMITATED),
    _acting("E2", "REINFORCE after imitation: more of what is tried can be done.", "executability_percent", REINFORCED, IMITATED),
    _acting("E5", "A perfect summary reaches more goals than the captioner's words.", "success", IMITATED | {"says": "likeliest"},
            IMITATED | {"says": "likeliest", "told": "image, by household"}),
    _acting("E4", "Better than the majority class: goals.", "success", IMITATED, MAJORITY),
    _acting("E4", "Better than the majority class: the right object.", "object_percent", IMITATED, MAJORITY),
    _acting("E6", "What it says does not collapse: more than 2 bits.", "entropy_bits", IMITATED, None, 2.0),
)
