"""Published claims, tested here: each an ordering, the rows of `docs/results` that speak to it, and a verdict made from their intervals.

`ledger` lists them; `python -m vla.claims` writes `docs/claims.md`.
"""

from vla.claims.claim import Claim, Finding
from vla.claims.ledger import CLAIMS

__all__ = ["CLAIMS", "Claim", "Finding"]
