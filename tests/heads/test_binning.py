"""Binning against OpenVLA's arithmetic, written out in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heads.binning import Windows, classes_to_ids, ids_to_classes, openvla_binning, uniform_binning

VOCABULARY = 32000


def openvla_encode(actions: np.ndarray) -> np.ndarray:
    """openvla/prismatic/vla/action_tokenizer.py, `__call__`, without the tokenizer."""
    return VOCABULARY - np.digitize(np.clip(actions, -1.0, 1.0), np.linspace(-1.0, 1.0, 256))


def openvla_decode(ids: np.ndarray) -> np.ndarray:
    """`decode_token_ids_to_actions` of the same file."""
    edges = np.linspace(-1.0, 1.0, 256)
    centres = (edges[:-1] + edges[1:]) / 2.0
    return centres[np.clip(VOCABULARY - ids - 1, a_min=0, a_max=centres.shape[0] - 1)]


def awkward_actions() -> np.ndarray:
    """A fine sweep past both ends, every edge, every centre, and the nearest floats on both sides of each edge."""
    edges = np.linspace(-1.0, 1.0, 256)
    return np.concatenate([np.linspace(-1.2, 1.2, 20001), edges, (edges[:-1] + edges[1:]) / 2,
                           np.nextafter(edges, -2), np.nextafter(edges, 2)])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_openvla_ids_equal_the_original_over_the_whole_range(dtype):
    actions = awkward_actions().astype(dtype)
    ids = classes_to_ids(openvla_binning().encode(torch.from_numpy(actions)), VOCABULARY).numpy()
    np.testing.assert_array_equal(ids, openvla_encode(actions))
    assert (ids.min(), ids.max()) == (31744, 31999)


def test_openvla_decoding_equals_the_original_for_every_id():
    binning = openvla_binning()
    ids = torch.arange(31000, 32000)  # the clip of the original also tames ids that are no action tokens
    actions = binning.decode(ids_to_classes(ids, VOCABULARY)).numpy()
    np.testing.assert_array_equal(actions, openvla_decode(ids.numpy()).astype(np.float32))
    assert len(np.unique(actions)) == 255
    assert actions[ids == 31744] == actions[ids == 31745]


@given(st.integers(2, 400), st.floats(-1.5, 1.5))
def test_round_trip_loses_at_most_half_a_bin(bins, value):
    for binning in (uniform_binning(bins), openvla_binning(bins)):
        width = float(binning.edges[1] - binning.edges[0])
        decoded = binning.decode(binning.encode(torch.tensor(value, dtype=torch.float64)))
        assert abs(float(decoded) - np.clip(value, -1, 1)) <= width / 2 + 1e-6


def test_uniform_bins_are_all_reachable_and_hold_their_own_centres():
    binning = uniform_binning(256)
    classes = torch.arange(256)
    assert binning.classes == 256
    assert torch.equal(binning.encode(binning.decode(classes)), classes)


def test_any_shape_is_kept():
    assert uniform_binning(8).encode(torch.zeros(2, 3, 4)).shape == (2, 3, 4)


@pytest.mark.parametrize("binning", [uniform_binning(16), openvla_binning(16)], ids=["uniform", "openvla"])
@pytest.mark.parametrize("reach", [0.0, 0.25, 2.0])
def test_the_mean_within_a_window_is_that_of_the_distribution_cut_to_it(binning, reach):
    logits = 3 * torch.randn(50, 3, 16, generator=torch.Generator().manual_seed(0))
    logits[0, 0, 0] = logits[0, 1, -1] = 50.0  # the window reaches over either end
    centres = binning.centres.float()
    outside = (centres - centres[logits.argmax(-1, keepdim=True)]).abs() > reach
    expected = (logits.masked_fill(outside, -torch.inf).softmax(-1) * centres).sum(-1)
    torch.testing.assert_close(Windows.of(binning, reach).mean(logits), expected)
