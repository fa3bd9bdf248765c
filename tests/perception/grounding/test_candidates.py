"""Boxes, masks, captions, positions, similarity and the oracle."""

import numpy as np
import pytest
import tiny_grounding
import torch
from hypothesis import given
from hypothesis import strategies as st

from perception.grounding import DETECTORS, SELECTORS
from perception.grounding.candidates import best_of, boxes_of, crop, likeness, overlaps
from perception.grounding.captions import phrase_scores, tokens_of
from perception.grounding.positions import Geometry
from perception.percept import Batch, raw
from perception.stages import Detections
from robot_io import CameraFrame, Observation, UserError


def test_best_of_keeps_the_best_few_of_each_phrase_and_no_copies():
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.26, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.75, 0.25, 0.2, 0.2]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.5, 0.6]])
    found = best_of(boxes, scores, (100, 200), per_phrase=2)
    assert [(int(p), round(float(s), 1)) for p, s in zip(found.phrase, found.scores, strict=True)] == [(0, 0.9), (1, 0.7), (1, 0.6), (0, 0.5)]
    np.testing.assert_allclose(found.boxes[0], [0, 0, 100, 50])


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6))
def test_a_masks_box_is_tight(x, y, width, height):
    mask = np.zeros((14, 13), bool)
    mask[y:y + height, x:x + width] = True
    np.testing.assert_array_equal(boxes_of(mask[None])[0], [x, y, x + width, y + height])
    assert crop(np.zeros((14, 13, 3), np.uint8), mask).shape == (height, width, 3)


def test_empty_masks():
    empty = np.zeros((2, 4, 4), bool)
    assert not boxes_of(empty).any() and not overlaps(empty, empty).any()
    assert overlaps(empty[:0], empty).shape == (0, 2) and crop(np.zeros((4, 4, 3), np.uint8), empty[0]) is None


def test_likeness_tells_colours_apart_but_not_shades():
    red, dark, blue = (np.full((5, 5, 3), rgb, np.uint8) for rgb in ((210, 40, 30), (180, 34, 26), (30, 40, 210)))
    assert likeness(red, red) > 0.99 and likeness(red, dark) > 0.4 > 0.01 > likeness(red, blue)


def test_every_token_of_a_caption_belongs_to_its_phrase():
    _, words = tiny_grounding.bert()
    tokens = tokens_of(words, ["red cube", "bowl.", "unheard of"])
    spelled = [[words.convert_ids_to_tokens(words("red cube . bowl . unheard of .")["input_ids"])[i] for i in row.nonzero()[:, 0]]
               for row in tokens]
    assert spelled == [["red", "cube"], ["bowl"], ["[UNK]", "[UNK]"]]
    torch.testing.assert_close(tokens.sum(1), torch.ones(3))
    logits = torch.full((1, 256), -torch.inf)
    logits[0, :9] = torch.tensor([0, 2.0, -2.0, 0, 5.0, 0, 0, 0, 0])
    expected = torch.tensor([0.5 * (torch.sigmoid(torch.tensor(2.0)) + torch.sigmoid(torch.tensor(-2.0))), torch.sigmoid(torch.tensor(5.0)), 0.5])
    torch.testing.assert_close(phrase_scores(logits, tokens)[0], expected)


def test_positions_are_where_the_surface_is():
    intrinsics = np.array([[50, 0, 15.5], [0, 50, 15.5], [0, 0, 1]], np.float32)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = 0.1, 0.2, 0.3
    depth = np.full((32, 32), 2, np.float32)
    depth[:, 20:] = 0
    frame = CameraFrame(np.zeros((32, 32, 3), np.uint8), depth, intrinsics, pose)
    batch = Batch.stack([Observation({"front": frame}, np.zeros(1, np.float32), "")], ["front"])
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 10:12, 5:7], masks[1, 0:4, 25:30] = True, True
    places = Geometry(batch, raw(batch)).positions(0, 0, masks)
    np.testing.assert_allclose(places[0], [0.1 + 2 * (5.5 - 15.5) / 50, 0.2 + 2 * (10.5 - 15.5) / 50, 2.3], atol=1e-5)
    assert np.isnan(places[1]).all()


def test_similarity_prefers_what_looks_like_the_reference(tmp_path):
    weights = tiny_grounding.save("similarity", tmp_path)

    def selector(**options):
        return SELECTORS.load("similarity")(SELECTORS.configure({"kind": "similarity", "weights": str(weights), **options}))

    picture = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    picture[:, :40] //= 4
    boxes = np.array([[0, 0, 40, 40], [40, 0, 80, 40]], np.float32)
    candidates = Detections(boxes, np.array([0.4, 0.9], np.float32), np.zeros(2, np.int64))
    similar = selector(reference=1.0, margin=0.0, threshold=-1.0, others=())
    for i in range(2):
        half = picture[:, 40 * i:40 * (i + 1)]
        assert similar.select(picture, candidates, ["cube"], "", [half]) == [i]
    assert selector(threshold=1.0).select(picture, candidates, ["cube"], "", [None]) == [None]
    assert similar.select(picture, candidates.keep(np.zeros(2, bool)), ["cube"], "", [None]) == [None]


def test_the_oracle_answers_by_words_and_refuses_to_guess():
    oracle = DETECTORS.load("oracle")(DETECTORS.configure({"kind": "oracle"}))
    masks = {name: np.eye(8, k=k, dtype=bool) for k, name in enumerate(("red cube", "blue cube", "white bowl", "robot"))}
    masks["green cube"] = np.zeros((8, 8), bool)
    picture = np.zeros((8, 8, 3), np.uint8)
    found = oracle.detect([picture], [["red cube", "cube", "bowl", "robot", "mug", "object"]], [masks])[0]
    assert np.bincount(found.phrase, minlength=6).tolist() == [1, 2, 1, 1, 0, 2]
    with pytest.raises(UserError, match=r"robot\.oracle=true"):
        oracle.detect([picture], [["red cube"]], [None])
