"""Policies composed of perception, backbone and head: recipes, training, evaluation, serving, the command line."""

import logging

# Whenever it is imported, bitsandbytes says that it would rather fetch kernels from the hub. What it brings does.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
