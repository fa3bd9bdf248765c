"""A linear layer whose frozen weight is kept in nf4, and which computes in the precision around it.

bitsandbytes' own layer fixes its precision at the first call, rounds its bias to it for good, and on some CPUs repacks
its weight for inference into a form that passes no gradients. A policy is trained under autocast, validated, trained on, saved
and served in float32 by the same process: here nothing but the output depends on what came before.
"""

from __future__ import annotations

import bitsandbytes
import torch
from torch import Tensor


class Nf4Linear(bitsandbytes.nn.Linear4bit):
    """`[..., I] -> [..., O]`, in autocast's type where it is on, else in the input's."""

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return bitsandbytes.matmul_4bit(x.to(dtype), self.weight, quant_state=self.weight.quant_state, bias=bias)
