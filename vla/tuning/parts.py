"""The table printed before training: parameters by part, how many are trained, and the memory that all of it will need."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from rich.table import Table
from torch import nn

from vla.recipe import Train
from vla.tuning.names import is_adapter, part_of, plain_name
from vla.tuning.quantize import elements, size

if TYPE_CHECKING:
    from vla.policy import Policy

MOMENTS = 2
"""AdamW keeps two numbers per trained parameter."""


@dataclass(frozen=True)
class Part:
    """`total` and `trainable` count parameters; the rest are bytes: of the weights as they are kept, of the gradients, of
    AdamW's moments, and of the moving average. Activations are not in it: they depend on the batch."""

    name: str
    total: int
    trainable: int
    weights: int
    gradients: int
    moments: int
    average: int

    @property
    def megabytes(self) -> float:
        return (self.weights + self.gradients + self.moments + self.average) / 1e6


def parts(policy: Policy, train: Train) -> list[Part]:
    """Those of perception, of the backbone's vision tower, projector, trunk, new modules and adapters, and of the head."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in policy.named_parameters():
        groups.setdefault(_group(policy, name), []).append(parameter)
    result = []
    for name, parameters in groups.items():
        trained = [p for p in parameters if p.requires_grad]
        gradients = sum(map(size, trained))
        result.append(Part(name, sum(map(elements, parameters)), sum(map(elements, trained)), sum(map(size, parameters)),
                           gradients, MOMENTS * gradients, 0 if train.ema is None else gradients))
    return result


def parts_table(policy: Policy, train: Train) -> Table:
    """`parts` for people, with their sum."""
    rows = parts(policy, train)
    sums = {field.name: sum(getattr(row, field.name) for row in rows) for field in fields(Part) if field.name != "name"}
    table = Table(title="parameters, and memory in MB (without activations)")
    table.add_column("part")
    for heading in ("total", "trainable", "weights", "gradients", "AdamW", "average", "memory"):
        table.add_column(heading, justify="right")
    for row in (*rows, Part("all", **sums)):
        if row.name == "all":
            table.add_section()
        memory = (row.weights / 1e6, row.gradients / 1e6, row.moments / 1e6, row.average / 1e6, row.megabytes)
        table.add_row(row.name, f"{row.total:,}", f"{row.trainable:,}", *(f"{value:,.1f}" for value in memory))
    return table


def _group(policy: Policy, name: str) -> str:
    module, _, rest = name.partition(".")
    if module == "backbone":
        if is_adapter(name):
            return "backbone: adapters"
        return f"backbone: {part_of(policy.plain_backbone, plain_name(rest))}"
    return "perception" if module == "front_ends" else module
