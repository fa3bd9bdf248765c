"""What of a policy is trained, in which precision the rest is kept, and what that costs: `tune`, `quantize`, `parts_table`."""

from vla.tuning.names import is_adapter, part_of, plain_name
from vla.tuning.parts import Part, parts, parts_table
from vla.tuning.quantize import holds_quantized, quantize, restore_quantized, unwritten
from vla.tuning.tune import tune

__all__ = ["Part", "holds_quantized", "is_adapter", "part_of", "parts", "parts_table", "plain_name", "quantize", "restore_quantized", "tune",
           "unwritten"]
