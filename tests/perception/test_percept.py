"""Raw RGB, chains of front-ends, and the random shift."""

import numpy as np
import pytest
import torch

from perception import PERCEPTION
from perception.percept import Batch, perceive, raw
from perception.shift import RandomShift
from robot_io import CameraFrame, Observation, UserError


def observation(seed: int = 0, size: int = 16, **frame) -> Observation:
    rng = np.random.default_rng(seed)
    camera = CameraFrame(rng.integers(0, 255, (size, size, 3), dtype=np.uint8), **frame)
    return Observation({"front": camera, "wrist": camera}, np.arange(4, dtype=np.float32), f"do {seed}")


def test_the_empty_list_is_raw_rgb_in_camera_order():
    observations = [observation(0), observation(1)]
    percept = perceive([], Batch.stack(observations, ["wrist", "front"]))
    assert percept.images.shape == (2, 2, 3, 16, 16)
    expected = observations[1].cameras["front"].rgb.transpose(2, 0, 1) / 255
    np.testing.assert_allclose(percept.images[1, 1].numpy(), expected, atol=1e-6)
    assert percept.tokens is None and percept.text == []


def test_a_missing_camera_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"camera 'top'.*front, wrist"):
        Batch.stack([observation()], ["top"])


def test_depth_is_kept_only_where_every_observation_has_it():
    depth = np.ones((16, 16), np.float32)
    assert "front" in Batch.stack([observation(0, depth=depth)], ["front"]).depth
    assert Batch.stack([observation(0, depth=depth), observation(1)], ["front"]).depth == {}


def test_pictures_of_different_sizes_are_refused():
    small, large = observation(0, 16), observation(0, 32)
    mixed = Observation({"a": small.cameras["front"], "b": large.cameras["front"]}, small.state, "go")
    with pytest.raises(UserError, match="differ in size"):
        raw(Batch.stack([mixed], ["a", "b"]))


def test_shift_moves_whole_pixels_while_training_and_nothing_after():
    shift = RandomShift(RandomShift.Config(pad=2))
    batch = Batch.stack([observation(i) for i in range(8)], ["front"])
    before = raw(batch)
    torch.manual_seed(0)
    after = shift.train()(batch, before).images
    assert after.shape == before.images.shape and not torch.equal(after, before.images)
    for moved, still in zip(after[:, 0], before.images[:, 0], strict=True):
        # The picture's middle, which no border touches, must be found again at one of the 25 offsets.
        core = moved[:, 4:12, 4:12]
        offsets = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        assert any(torch.equal(core, still[:, 4 + y : 12 + y, 4 + x : 12 + x]) for y, x in offsets)
    assert shift.eval()(batch, before) is before


def test_the_registry_configures_and_refuses_unknown_keys():
    assert PERCEPTION.configure({"kind": "shift", "pad": 3}).pad == 3
    with pytest.raises(ValueError, match="padd"):
        PERCEPTION.configure({"kind": "shift", "padd": 3})
    with pytest.raises(UserError, match="did you mean 'shift'"):
        PERCEPTION.load("shfit")
