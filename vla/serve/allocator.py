"""Keep memory between requests (glibc). By default what a batch needed goes back to the system after it, and comes back page by page: two to three
thousand page faults for a batch of eight pictures of 96 pixels, a few hundredths of its time, and more on a busy machine."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""`mallopt(3)`."""


def keep_memory() -> bool:
    """From here on this process does not give freed memory back; True if its C library can be told so."""
    if sys.platform != "linux" or (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is None:  # musl has none
        return False
    return all([mallopt(MMAP_THRESHOLD, 32 << 20), mallopt(TRIM_THRESHOLD, 1 << 30), mallopt(ARENA_MAX, 1)])
