"""The bytes on the wire: msgpack with NumPy arrays, byte for byte as `openpi_client.msgpack_numpy` writes them.

An array travels as a map with bytes keys, `{b"__ndarray__": True, b"data": …, b"dtype": "<f4", b"shape": [2, 3]}`, a
NumPy scalar as `{b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}`; everything else is plain msgpack. There is no
pickle, so a frame can hold data and nothing else. Where openpi trusts its peer this codec does not: a frame has a
bounded size and a bounded number of items, only fixed-size dtypes pass (no object, void or complex), and an array's
bytes must fit its shape. Decoded arrays are read-only views of the frame. What a message means is in
`robot_io.messages`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np

from robot_io.errors import UserError

MAX_BYTES = 64 * 2**20
# msgpack allocates a list when it reads its announced length and unpacks a one-byte item into about sixty bytes of
# Python, so bounding the frame's bytes alone would not bound the memory it takes.
MAX_ITEMS = 16_384
MAX_DIMENSIONS = 32

DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|[mM]8(\[\w{1,16}\])?)")


class WireError(UserError):
    """A value that must not be sent, or a frame that cannot be read."""


def packb(value: Any, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode dicts, lists, strings, numbers, bytes and NumPy arrays into one frame."""
    try:
        frame = msgpack.packb(value, default=_encode)
    except WireError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(
            "message", str(error), "dicts, lists, text, numbers and NumPy arrays", "convert the value"
        ) from None
    if len(frame) > max_bytes:
        raise WireError("message", f"{len(frame)} bytes long", f"at most {max_bytes}", "send smaller pictures")
    return frame


def unpackb(frame: bytes, *, max_bytes: int = MAX_BYTES, decode: Callable[[dict[Any, Any]], Any] | None = None) -> Any:
    """Decode one frame. A hostile one raises `WireError` and costs little more memory than its size.

    Args:
        decode: what to make of a map, for protocols that mark their arrays otherwise; see `read_array`.
    """
    decode = decode or _decode
    if len(frame) > max_bytes:
        raise WireError("frame", f"{len(frame)} bytes long", f"at most {max_bytes}", "send smaller pictures")
    items = 0

    def count(container: Any) -> Any:
        nonlocal items
        items += len(container)
        if items > MAX_ITEMS:
            raise WireError(
                "frame", f"more than {MAX_ITEMS} list and map items", "fewer", "send numbers as NumPy arrays"
            )
        return container

    try:
        return msgpack.unpackb(
            frame,
            object_hook=lambda found: decode(count(found)),
            list_hook=count,
            ext_hook=_refuse_extension,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except WireError:
        raise
    except (msgpack.UnpackException, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(
            "frame",
            f"not a readable msgpack message ({error})",
            "one msgpack value",
            "pack it with openpi_client.msgpack_numpy or robot_io.wire",
        ) from None


def read_array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    """The array that a peer describes by its bytes, its dtype (`"<f4"`) and its shape (a list): a read-only view, once they agree."""
    dtype = _dtype(dtype)
    if not isinstance(data, bytes) or not _is_shape(shape):
        raise WireError(
            "array in the frame",
            "has no bytes or no shape",
            "b'data': bytes, b'shape': list of sizes",
            "pack it with tobytes() and its shape",
        )
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError(
            "array in the frame",
            f"{len(data)} bytes of {dtype} for shape {tuple(shape)}",
            f"{math.prod(shape) * dtype.itemsize} bytes",
            "pack the array with its own shape",
        )
    return np.ndarray(buffer=data, dtype=dtype, shape=shape)


def _encode(value: Any) -> Any:
    """msgpack's hook for what it does not know."""
    if isinstance(value, (np.ndarray, np.generic)) and not DTYPE.fullmatch(value.dtype.str):
        raise _bad_dtype(value.dtype.str)
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot send a {type(value).__name__}")


def _decode(found: dict[Any, Any]) -> Any:
    """msgpack's hook for every map: turn the two marked kinds back into NumPy."""
    if b"__ndarray__" in found:
        return read_array(found.get(b"data"), found.get(b"dtype"), found.get(b"shape"))
    if b"__npgeneric__" in found:
        data, dtype = found.get(b"data"), _dtype(found.get(b"dtype"))
        if not isinstance(data, (bool, int, float, str, bytes)):
            raise WireError(
                "NumPy scalar in the frame", f"holds a {type(data).__name__}", "one plain value", "pack .item()"
            )
        return dtype.type(data)
    return found


def _dtype(text: Any) -> np.dtype:
    if not isinstance(text, str):
        raise _bad_dtype(text)
    return _dtype_named(text)


@lru_cache(256)
def _dtype_named(text: str) -> np.dtype:
    if not DTYPE.fullmatch(text):
        raise _bad_dtype(text)
    return np.dtype(text)


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**31 for size in shape)
    )


def _bad_dtype(found: Any) -> WireError:
    return WireError(
        "array",
        f"dtype {found!r:.40}",
        "booleans, integers, floats, text or times, byte order given ('<f4')",
        "convert it with astype before sending",
    )


def _refuse_extension(code: int, data: bytes) -> Any:
    raise WireError("frame", f"a msgpack extension of type {code}", "none", "send plain values and NumPy arrays")
