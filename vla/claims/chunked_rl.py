"""What CO-RFT and Q-chunking say, put to the test on the tabletop (docs/rl.md)."""

from __future__ import annotations

from vla.claims.claim import Claim

CORFT, QC = "CO-RFT (arXiv 2508.02219)", "Q-chunking (arXiv 2507.07969)"
UNEVEN = "66 demonstrations of uneven quality (Q: and 40 rollouts of the policy); `tiny`, imitated for 600 steps, backbone frozen, 1,000 steps"
REGRESSED = {"policy": "imitation, regression", "data": "random starts", "scenes": "as demonstrated"}
CLIMBED = {**REGRESSED, "policy": "regression + CO-RFT"}
DIFFUSION = {**REGRESSED, "policy": "imitation, diffusion"}
CHOSEN = {**REGRESSED, "data": "random starts and rollouts"}
BEST_OF = {**CHOSEN, "policy": "diffusion + Q-chunking, best of 32"}
UNSEEN = {"scenes": "unseen positions"}
AGAIN = "chunked_rl_in_time"
"""The second run of the same training seeds, which also asked what succeeds in time."""
DEMONSTRATED = {**REGRESSED, "policy": "diffusion + Q-chunking, best of 32"}

CLAIMS: tuple[Claim, ...] = (
    Claim("C1", CORFT, "CO-RFT beats the imitation that it begins with by at least 10 points.", AGAIN, CLIMBED, REGRESSED, margin=0.1,
          setting=UNEVEN),
    Claim("C1", CORFT, "CO-RFT beats as much more imitation.", AGAIN, CLIMBED, REGRESSED | {"policy": "regression + as much imitation"},
          setting=UNEVEN),
    Claim("C2", CORFT, "CO-RFT needs at least 15 % less time for a success than imitation.", AGAIN, REGRESSED, CLIMBED,
          metric="cycle_seconds", ratio=1.18, setting=UNEVEN),
    Claim("C3", CORFT, "At unseen positions, CO-RFT from random starts beats CO-RFT from a fixed start.", AGAIN, CLIMBED | UNSEEN,
          CLIMBED | UNSEEN | {"data": "fixed starts"}, setting=UNEVEN),
    Claim("C3", CORFT, "The same of Q-chunking (its demonstrations alone).", AGAIN, DEMONSTRATED | UNSEEN,
          DEMONSTRATED | UNSEEN | {"data": "fixed starts"}, setting=UNEVEN),
    Claim("C3", CORFT, "The same of imitation.", AGAIN, DIFFUSION | UNSEEN, DIFFUSION | UNSEEN | {"data": "fixed starts"}, setting=UNEVEN),
    Claim("Q1", QC, "The best of 32 by a chunk critic beats the imitation that draws them.", "chunked_rl", BEST_OF, DIFFUSION, setting=UNEVEN),
    Claim("Q1", QC, "It succeeds more often than the best of 32 by one-step values.", "chunked_rl", BEST_OF,
          CHOSEN | {"policy": "diffusion + 1-step TD, best of 32"}, setting=UNEVEN),
    Claim("Q1", QC, "It succeeds more often than the best of 32 by n-step values of single actions.", "chunked_rl", BEST_OF,
          CHOSEN | {"policy": "diffusion + n-step TD, best of 32"}, setting=UNEVEN),
    Claim("Q1", QC, "Within 5 seconds it beats the imitation that draws them by at least 10 points (learnt from demonstrations alone).", AGAIN,
          DEMONSTRATED, DIFFUSION, margin=0.1, metric="success_in_5_s", setting=UNEVEN),
    Claim("Q1", QC, "Within 5 seconds it beats as much more imitation (learnt from demonstrations alone).", AGAIN, DEMONSTRATED,
          REGRESSED | {"policy": "diffusion + as much imitation"}, metric="success_in_5_s", setting=UNEVEN),
    Claim("Q1", QC, "On Meta-World the best of 32 by a chunk critic beats the imitation that draws them.", "metaworld_rl",
          {"policy": "diffusion + Q-chunking, best of 32"}, {"policy": "imitation, diffusion"},
          setting="button-press-topdown, 40 demonstrations, 40 rollouts, one training seed"),
    Claim("Q2", QC, "It needs at least 15 % less time for a success.", "chunked_rl", DIFFUSION, BEST_OF, metric="cycle_seconds", ratio=1.18,
          setting=UNEVEN),
    Claim("Q3", QC, "It needs less time than the best of 32 by one-step values.", "chunked_rl",
          CHOSEN | {"policy": "diffusion + 1-step TD, best of 32"}, BEST_OF, metric="cycle_seconds", setting=UNEVEN),
    Claim("Q4", QC, "It needs less time than the best of 32 by n-step values of single actions.", "chunked_rl",
          CHOSEN | {"policy": "diffusion + n-step TD, best of 32"}, BEST_OF, metric="cycle_seconds", setting=UNEVEN),
)
