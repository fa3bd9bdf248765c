"""Which head goes with which backbone, decided from their cards alone: before anything is imported, built or downloaded.

A backbone `provides` parts of a `Context` (readout, hidden, layers, continuation), a head `needs` some of them.
"""

from __future__ import annotations

from backbones import BACKBONES
from heads import HEADS
from robot_io import UserError
from robot_io.registry import Registry


def require_pairing(backbone: str, head: str) -> None:
    """Refuse a head whose needs the backbone does not provide. Components named by `module:Class` have no card and pass.

    Raises:
        UserError: names what is missing, and the kinds that would fit on either side.
    """
    provides, needs = _cards(BACKBONES, "provides"), _cards(HEADS, "needs")
    if backbone not in provides or head not in needs:
        return
    if missing := needs[head] - provides[backbone]:
        heads = sorted(kind for kind, wanted in needs.items() if wanted <= provides[backbone])
        backbones = sorted(kind for kind, given in provides.items() if needs[head] <= given)
        raise UserError(
            f"head '{head}' on backbone '{backbone}'",
            f"the head needs {' and '.join(sorted(missing))}, which this backbone does not provide",
            f"a head for this backbone ({', '.join(heads) or 'none'}), or a backbone for this head "
            f"({', '.join(backbones) or 'none'})",
            "change head.kind or backbone.kind",
        )


def _cards(registry: Registry, field: str) -> dict[str, set[str]]:
    return {card.kind: set(getattr(card, field)) for card in registry.cards()}
