"""Layers that are kept in fewer bits for serving, and need no other package than torch.

    weight              a saved layer is told by    bits a weight
    HalfLinear          its weight being bfloat16   16
    Int8Linear          `….int8_scale`              8      one scale per output row
    DynamicInt8Linear   `….dynamic_scale`           8      the same; on a CPU the input is rounded, too, and integers are multiplied
    Int4Linear          `….int4_scale`              4.5    asymmetric, a scale and a lowest value (bfloat16 each) per group of 64

and `HalfEmbedding`, `Int8Embedding`, `HalfConv2d`. All pass on the precision of their input, and compute in it but for the convolution, which
multiplies in bfloat16, as it must to be any faster; none can be trained. Where torchao was
measured (0.18, eager, this CPU), its dynamic int8 took 23 times as long as float32; `DynamicInt8Linear` uses the kernel that torch brings
for x86 (FBGEMM), which is faster than float32 there. Elsewhere it is `Int8Linear`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor, nn

GROUP = 64
KERNEL = "fbgemm" in torch.backends.quantized.supported_engines and hasattr(torch, "_make_per_channel_quantized_tensor")
"""Whether this torch can multiply integers on this CPU."""


class Kept(nn.Linear):
    """A linear layer whose weight is not what it multiplies with. `like` gives sizes and bias; its weight is not touched."""

    def __init__(self, like: nn.Linear, weight: Tensor, **buffers: Tensor) -> None:
        super().__init__(like.in_features, like.out_features, like.bias is not None, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = like.bias
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.train(like.training)

    @property
    def full(self) -> Float[Tensor, "o i"]:
        """The weight that the layer stands for, float32."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return F.linear(x, self.full.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class HalfLinear(Kept):
    @classmethod
    def of(cls, layer: nn.Linear) -> HalfLinear:
        return cls(layer, layer.weight.detach().bfloat16())

    @property
    def full(self) -> Float[Tensor, "o i"]:
        return self.weight


class Int8Linear(Kept):
    scale_name = "int8_scale"

    @classmethod
    def of(cls, layer: nn.Linear) -> Int8Linear:
        weight, scale = rows_to_int8(layer.weight.detach())
        return cls(layer, weight, **{cls.scale_name: scale})

    @property
    def scale(self) -> Float[Tensor, " o"]:
        return getattr(self, self.scale_name)

    @property
    def full(self) -> Float[Tensor, "o i"]:
        return self.weight * self.scale[:, None]

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        # Scaling what comes out costs less than scaling the weight.
        y = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        return y if self.bias is None else y + self.bias.to(x.dtype)


class DynamicInt8Linear(Int8Linear):
    scale_name = "dynamic_scale"

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        if x.device.type != "cpu" or x.dtype != torch.float32 or not KERNEL:
            return super().forward(x)
        # Without VNNI the products of 8 by 8 bits saturate in pairs, so the input gets 7 of them (the last argument).
        return torch.ops.quantized.linear_dynamic(x, self._prepacked(), True)

    def _prepacked(self) -> Any:
        """The kernel's own form of the weight: made at the first call, not saved, not copied."""
        if "_packed" not in self.__dict__:
            zeros = torch.zeros(len(self.scale), dtype=torch.long)
            with warnings.catch_warnings(action="ignore"):  # that quantised tensors will go; then `KERNEL` is False
                weight = torch._make_per_channel_quantized_tensor(self.weight.detach(), self.scale.double(), zeros, 0)
            bias = None if self.bias is None else self.bias.detach().float()
            self.__dict__["_packed"] = torch.ops.quantized.linear_prepack(weight, bias)
        return self.__dict__["_packed"]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


class Int4Linear(Kept):
    @classmethod
    def of(cls, layer: nn.Linear) -> Int4Linear:
        grouped = layer.weight.detach().float().unflatten(1, (-1, group_of(layer)))
        low, high = grouped.amin(2).bfloat16(), grouped.amax(2)
        scale = ((high - low.float()) / 15).clamp(min=1e-8).bfloat16()
        levels = ((grouped - low.float()[..., None]) / scale.float()[..., None]).round().clamp(0, 15).to(torch.uint8).flatten(1)
        return cls(layer, levels[:, ::2] | levels[:, 1::2] << 4, int4_scale=scale, int4_low=low)

    @property
    def full(self) -> Float[Tensor, "o i"]:
        levels = torch.stack([self.weight & 15, self.weight >> 4], 2).flatten(1).unflatten(1, (self.int4_scale.shape[1], -1))
        return (levels * self.int4_scale.float()[..., None] + self.int4_low.float()[..., None]).flatten(1)


class HalfConv2d(nn.Conv2d):
    """`of` a convolution, whose type it goes on giving out. Its products are bfloat16's: twice as fast on a CPU that has AMX."""

    def __init__(self, like: nn.Conv2d, weight: Tensor) -> None:
        super().__init__(like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding, like.dilation, like.groups,
                         like.bias is not None, like.padding_mode, device="meta")
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), like.bias
        self.train(like.training)

    @classmethod
    def of(cls, layer: nn.Conv2d) -> HalfConv2d:
        return cls(layer, layer.weight.detach().bfloat16())

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d y x"]:
        bias = None if self.bias is None else self.bias.bfloat16()
        return self._conv_forward(x.bfloat16(), self.weight, bias).to(x.dtype)


class HalfEmbedding(nn.Embedding):
    """`of` an embedding, whose type it goes on giving out."""

    def __init__(self, like: nn.Embedding, weight: Tensor, **buffers: Tensor) -> None:
        super().__init__(like.num_embeddings, like.embedding_dim, like.padding_idx, device="meta")
        self.weight, self.dtype = nn.Parameter(weight, requires_grad=False), like.weight.dtype
        for name, value in buffers.items():
            self.register_buffer(name, value)

    @classmethod
    def of(cls, layer: nn.Embedding) -> HalfEmbedding:
        return cls(layer, layer.weight.detach().bfloat16())

    def forward(self, ids: Tensor) -> Float[Tensor, "... d"]:
        return self.weight[ids].to(self.dtype)


class Int8Embedding(HalfEmbedding):
    @classmethod
    def of(cls, layer: nn.Embedding) -> Int8Embedding:
        weight, scale = rows_to_int8(layer.weight.detach())
        return cls(layer, weight, int8_scale=scale)

    def forward(self, ids: Tensor) -> Float[Tensor, "... d"]:
        return (self.weight[ids] * self.int8_scale[ids][..., None]).to(self.dtype)


def rows_to_int8(weight: Float[Tensor, "o i"]) -> tuple[Int8[Tensor, "o i"], Float[Tensor, " o"]]:
    """Symmetric, one scale per row."""
    scale = (weight.float().abs().amax(1) / 127).clamp(min=1e-12)
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def group_of(layer: nn.Linear) -> int:
    """How many weights of a row share a scale in `Int4Linear`; 0 if its rows cannot be packed."""
    group = math.gcd(layer.in_features, GROUP)
    return group if group % 2 == 0 else 0


def restored(layer: nn.Module, weight: Tensor, beside: dict[str, Tensor]) -> nn.Module | None:
    """The kept layer that a saved `weight` and the tensors `beside` it (by the last part of their names) tell, in place of the plain
    `layer`; None if they tell of none."""
    half = weight.dtype == torch.bfloat16 and layer.weight.dtype != torch.bfloat16
    if isinstance(layer, nn.Embedding):
        if "int8_scale" in beside:
            return Int8Embedding(layer, weight, int8_scale=beside["int8_scale"])
        return HalfEmbedding(layer, weight) if half else None
    if isinstance(layer, nn.Conv2d):
        return HalfConv2d(layer, weight) if half else None
    for kind, names in ((Int8Linear, ("int8_scale",)), (DynamicInt8Linear, ("dynamic_scale",)), (Int4Linear, ("int4_scale", "int4_low"))):
        if names[0] in beside:
            return kind(layer, weight, **{name: beside[name] for name in names})
    return HalfLinear(layer, weight) if half else None
