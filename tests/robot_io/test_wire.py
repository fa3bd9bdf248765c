from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robot_io.wire import MAX_ITEMS, WireError, packb, unpackb

FRAMES = Path(__file__).parents[1] / "fixtures" / "openpi_frames"

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(min_len=1),
    hnp.datetime64_dtypes(),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
MESSAGES = st.dictionaries(st.text(), NESTED | ARRAYS | st.lists(ARRAYS, max_size=2), max_size=3)


def same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("name", ["metadata", "observation", "result"])
def test_frames_of_openpi_are_read_and_written_byte_for_byte(name: str) -> None:
    frame = (FRAMES / f"{name}.bin").read_bytes()
    assert packb(unpackb(frame)) == frame


def test_a_frame_of_openpi_holds_what_openpi_put_in() -> None:
    observation = unpackb((FRAMES / "observation.bin").read_bytes())
    random = np.random.default_rng(0)
    for key in ("observation/image", "observation/wrist_image"):
        np.testing.assert_array_equal(observation[key], random.integers(0, 255, (16, 16, 3), np.uint8))
    np.testing.assert_array_equal(observation["observation/state"], np.arange(8))
    result = unpackb((FRAMES / "result.bin").read_bytes())
    np.testing.assert_array_equal(result["actions"], np.arange(140, dtype=np.float64).reshape(20, 7))


@settings(max_examples=80, deadline=None)
@given(MESSAGES)
def test_what_is_packed_comes_back(message: dict) -> None:
    assert same(message, unpackb(packb(message)))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(DTYPES, 1).map(lambda array: array[0]).filter(lambda value: value.dtype.kind in "biuf"))
def test_scalars_keep_their_type(value: np.generic) -> None:
    found = unpackb(packb({"value": value}))["value"]
    # NumPy's float64 is a Python float, and openpi too sends it as one.
    assert type(found) is (float if isinstance(value, float) else type(value))
    np.testing.assert_equal(found, value)


def test_a_view_is_packed_as_what_it_shows() -> None:
    view = np.arange(24, dtype=np.int16).reshape(4, 6)[::2, ::-1]
    np.testing.assert_array_equal(unpackb(packb(view)), view)


@pytest.mark.parametrize("value", [
    np.array([object()]), np.array([1j]), np.zeros(2, "V4"), np.zeros(2, [("a", "f4")]), np.complex64(1), np.longdouble(1),
    {1, 2}, object(), 2**70, np.array([{"a": 1}], dtype=object), print,
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_what_is_not_plain_data_is_not_sent(value: object) -> None:
    with pytest.raises(WireError):
        packb({"value": value})


def array(data: object = b"\0" * 8, dtype: object = "<f4", shape: object = (2,)) -> dict:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


def scalar(data: object = 1, dtype: object = "<f4") -> dict:
    return {b"__npgeneric__": True, b"data": data, b"dtype": dtype}


HOSTILE = {
    "object dtype": array(dtype="|O"), "pickled object": array(b"cos\nsystem\n(S'true'\ntR.", "O", [1]),
    "void dtype": array(dtype="|V8", shape=[1]), "complex dtype": array(dtype="<c8", shape=[1]),
    "structured dtype": array(dtype="f4,f4", shape=[1]), "sub-array dtype": array(dtype="(2,)f4", shape=[1]),
    "no byte order": array(dtype="f4"), "empty items": array(b"", "|S0", [2**30]), "dtype is bytes": array(dtype=b"<f4"),
    "dtype is a list": array(dtype=[["a", "<f4"]]), "too few bytes": array(shape=[3]), "too many bytes": array(shape=[1]),
    "negative size": array(shape=[-2]), "two negative sizes": array(shape=[-1, -2]), "huge size": array(b"", shape=[0, 2**62]),
    "overflowing shape": array(shape=[2**31 - 1] * 8), "float size": array(shape=[2.0]),
    "bool size": array(b"\0" * 4, shape=[True]),
    "no shape": array(shape=None), "shape is a number": array(shape=2), "many dimensions": array(shape=[1] * 70 + [2]),
    "data is text": array("12345678"), "data is a number": array(8), "nothing but the mark": {b"__ndarray__": True},
    "array is an array": array(array()), "scalar of object": scalar(dtype="|O"), "scalar of a list": scalar([1] * 100),
    "scalar of an array": scalar(array()), "scalar too large": scalar(300, "|i1"), "scalar of text": scalar("x", "<i4"),
    "scalar without dtype": {b"__npgeneric__": True, b"data": 1},
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_arrays_are_refused(hostile: dict) -> None:
    with pytest.raises(WireError):
        unpackb(msgpack.packb({"observation/state": hostile}))


@pytest.mark.parametrize("frame", [
    b"", b"\xc1", b"\x81\xa1", b"\x80\x80", b"\xa2\xff\xfe", b"\x81\x01\x02", b"\x81\x90\x01",
    msgpack.packb(msgpack.ExtType(5, b"x")), msgpack.packb(msgpack.ExtType(5, b"")), b"\xd4\x05\x00", b"\xc7\x00\x05",
    b"\x91" * 5000 + b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff",
    msgpack.packb([0] * (MAX_ITEMS + 1)), msgpack.packb([[0] * 200] * 200), msgpack.packb([{}] * MAX_ITEMS * 2),
], ids=lambda frame: repr(frame[:12]))  # fmt: skip
def test_hostile_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        unpackb(frame)


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(frame: bytes) -> None:
    with suppress(WireError):
        unpackb(frame)


def test_sizes_are_bounded_both_ways() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    frame = packb(picture)
    for refused in (lambda: packb(picture, max_bytes=30_000), lambda: unpackb(frame, max_bytes=30_000)):
        with pytest.raises(WireError, match="at most 30000"):
            refused()
