"""Scenes in words: what the template says is true, published captioners run, and the policy reads what it is given and no more."""

import json
import re

import numpy as np
import pytest
import tiny_captioners
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_scene import SIZE, scene

from perception import PERCEPTION
from perception.captioning import CAPTIONERS
from perception.captioning.places import field
from perception.grounding import DETECTORS
from perception.percept import Batch, raw
from perception.stages import Detections
from perception.summary import BLANK
from robot_io import UserError
from robot_io.registry import ComponentConfig


def summary(batch, percept, captioner, **options):
    front_end = PERCEPTION.load("summary")(PERCEPTION.configure({"kind": "summary", "captioner": captioner, **options}))
    return front_end(batch, percept)


@settings(max_examples=15)
@given(st.floats(0.40, 0.56), st.floats(-0.1, 0.1))
def test_the_template_says_where_the_ball_is(x, y):
    batch, percept = scene((x, y))
    (text,) = summary(batch, percept, {"kind": "template", "unit": "mm"}).text
    ahead, left, side = re.fullmatch(r"a ball (\d+) mm away, (\d+) mm (left|right)", text).groups()
    assert abs(int(ahead) - 1000 * x) < 45, "the camera sees the near side of a ball of 10 cm"
    assert abs(int(left) * (1 if side == "left" else -1) - 1000 * y) < 30
    (field_of_it,) = summary(batch, percept, {"kind": "template", "positions": "picture"}).text
    rows, columns = percept.regions.masks[0, 0, 0].nonzero(as_tuple=True)
    assert field_of_it == f"a ball {field((columns.float().mean() + 0.5) / SIZE, (rows.float().mean() + 0.5) / SIZE)}"


def test_what_one_view_misses_is_told_from_another():
    batch, percept = scene((0.45, 0.05))
    hidden = percept.regions.masks & torch.tensor([False, True]).view(1, 2, 1, 1, 1)
    seen = percept.replace(regions=type(percept.regions)(hidden, percept.regions.scores, percept.regions.roles, percept.regions.phrases))
    assert re.fullmatch(r"a ball 4\d cm away, [1-8] cm left", summary(batch, seen, {"kind": "template"}).text[0])
    gone = seen.replace(regions=type(percept.regions)(hidden & False, percept.regions.scores, percept.regions.roles, percept.regions.phrases))
    assert summary(batch, gone, {"kind": "template"}).text == ["nothing"]


class Boxes:
    """A detector for tests that gives boxes alone: the same thing under two names, and others."""

    class Config(ComponentConfig):
        kind: str = "test_summary:Boxes"

    def __init__(self, config):
        pass

    def detect(self, pictures, phrases):
        boxes = np.array([[2, 2, 8, 8], [2, 2, 8, 9], [40, 2, 46, 8], [20, 2, 26, 8]], np.float32)
        return [Detections(boxes, np.array([0.6, 0.9, 0.8, 0.7], np.float32), np.array([0, 1, 2, 3]))] * len(pictures)


def test_a_thing_is_named_once_and_what_is_asked_for_comes_first(monkeypatch):
    monkeypatch.setitem(DETECTORS._addresses, "test_summary:Boxes", f"{__name__}:Boxes")
    batch, percept = scene((0.45, 0.05))
    alone = percept.replace(regions=None)
    options = {"kind": "template", "positions": "none", "detector": {"kind": "test_summary:Boxes"}, "vocabulary": ("cup", "mug", "ball", "fork")}
    monkeypatch.setitem(__import__("sys").modules, "test_summary", __import__("sys").modules[__name__])
    assert summary(batch, alone, options).text == ["a ball; a mug; 1 more"], "better named than cup; the instruction says ball"
    with pytest.raises(UserError, match="no vocabulary of its own"):
        summary(batch, alone, {**options, "vocabulary": None})


def test_hidden_pictures_are_blank_and_text_is_added_to_text():
    batch, percept = scene((0.45, 0.05))
    beside = summary(batch, percept.replace(text=["once"]), {"kind": "template", "positions": "none"})
    assert beside.text == ["once a ball"] and beside.images is percept.images
    hidden = summary(batch, percept, {"kind": "template", "positions": "none"}, pictures="hidden")
    assert hidden.images.shape == percept.images.shape and (hidden.images == BLANK).all()


def test_between_descriptions_the_last_one_stands():
    memory = [{}]
    said = []
    front_end = PERCEPTION.load("summary")(PERCEPTION.configure({"kind": "summary", "every": 2, "captioner": {"kind": "template"}}))
    for x in (0.41, 0.45, 0.53):
        batch, percept = scene((x, 0.0))
        batch = Batch(**{**vars(batch), "memory": memory})
        said += front_end(batch, percept).text
    assert said[0] == said[1] != said[2]


def test_the_template_needs_depth_only_for_distances():
    for positions, needs in (("metric", True), ("picture", False)):
        config = PERCEPTION.configure({"kind": "summary", "captioner": {"kind": "template", "positions": positions}})
        assert PERCEPTION.load("summary")(config).needs_depth is needs
    with pytest.raises(UserError, match="camera 'behind'"):
        summary(*scene((0.45, 0.0)), {"kind": "template"}, camera="behind")


@pytest.mark.parametrize("kind", tiny_captioners.MAKERS)
def test_published_captioners_describe_pictures_one_by_one_and_together(kind, tmp_path):
    folder = tiny_captioners.save(kind, tmp_path / kind)
    captioner = CAPTIONERS.load(kind)(CAPTIONERS.configure({"kind": kind, "weights": str(folder), "max_tokens": 5, "batch_size": 2}))
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8))

    def describe(rgb):
        batch = Batch(rgb={"front": rgb}, state=torch.zeros(len(rgb), 1), instructions=[""] * len(rgb))
        return captioner.describe(batch, raw(batch), "front")

    together = describe(pictures)
    assert len(together) == 3 and all(together)
    assert together == [describe(picture[None])[0] for picture in pictures]
    assert captioner.state_dict() == {}, "a policy folder does not carry it"


def test_a_captioner_that_is_not_there_says_what_to_fetch(tmp_path):
    with pytest.raises(UserError, match=r"captioner blip.*hf download Salesforce/blip-image-captioning-large --local-dir"):
        CAPTIONERS.load("blip")(CAPTIONERS.configure({"kind": "blip", "weights": str(tmp_path / "nowhere")}))
    folder = tiny_captioners.save("blip", tmp_path / "blip")
    (folder / "config.json").write_text(json.dumps({"model_type": "florence2"}))
    with pytest.raises(UserError, match="it is a 'florence2' checkpoint"):
        CAPTIONERS.load("blip")(CAPTIONERS.configure({"kind": "blip", "weights": str(folder)}))
