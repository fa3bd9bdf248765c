"""`best_of(policy, 16, agreement)`: the same policy, which from now on draws several chunks and carries out the best.

To evaluate one, give `vla evaluate` the address of a function of your own (see `vla.evaluate.drivers`):

    def careful(robot):  # vla evaluate my_module:careful
        return best_of(Policy.load("runs/pick/policy"), 16, agreement)
"""

from __future__ import annotations

from heads.chooser import Chooser, Scorer, agreement, smoothness
from vla.policy import Policy


def best_of(policy: Policy, draws: int, scorer: Scorer = agreement) -> Policy:
    """Wrap the policy's head, in place.

    Raises:
        UserError: `draws` below 1. A head that cannot draw (regression, tokens at temperature 0) refuses when it is asked.
    """
    policy.head = Chooser(policy.head, scorer, draws)
    return policy


__all__ = ["Chooser", "Scorer", "agreement", "best_of", "smoothness"]
