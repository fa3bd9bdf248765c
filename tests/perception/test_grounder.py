"""The embedded grounder: learns at a tiny size; the shipped weights find things in scenes rendered here; what it answers to what."""

from __future__ import annotations

import numpy as np
import pytest

from robot_io import UserError

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

COLORS, SHAPES = ("blue", "red"), ("ball", "cube")


@pytest.fixture(scope="module")
def grounder():
    from perception.grounder.detector import EmbeddedGrounder

    torch.set_num_threads(1)
    return EmbeddedGrounder()


@pytest.fixture(scope="module")
def robot():
    from robot_io.tabletop.env import TabletopRobot

    robot = TabletopRobot(task={"distractors": 4, "pairs": "seen"}, background="all", background_split="test")
    yield robot
    robot.close()


def written_scene(folder):
    """Two scenes of a red square and a blue disc on a grey table, in the files of `scenes.py`."""
    from perception.grounder.scenes import ROBOT, open_arrays

    arrays = open_arrays(folder, 2)
    y, x = np.mgrid[:128, :128]
    for i in range(2):
        for v in range(2):
            square = (abs(y - 40) < 14) & (abs(x - 30 - 20 * v) < 14)
            disc = np.hypot(y - 80, x - 80 + 10 * i) < 16
            arrays["images"][i, v] = np.where(square[..., None], (200, 20, 20), np.where(disc[..., None], (20, 50, 190), 140))
            arrays["ids"][i, v] = square + 2 * disc
            arrays["ids"][i, v, :10] = ROBOT
            arrays["images"][i, v, :10] = 20
        arrays["names"][i, :2] = "red cube", "blue ball"
    for array in arrays.values():
        array.flush()
    return folder


@pytest.mark.parametrize("part", ["segmenter", "namer"])
def test_a_tiny_configuration_learns(tmp_path, part):
    from perception.grounder import train
    from perception.grounder.lessons import Teacher, names_in
    from perception.grounder.model import Segmenter
    from perception.grounder.namer import Namer

    torch.manual_seed(0)
    folders = [written_scene(tmp_path)]
    assert names_in(folders) == (COLORS, SHAPES)
    teacher = Teacher(folders, COLORS, SHAPES)
    if part == "segmenter":
        model, lesson, lose = Segmenter(width=8), teacher.pictures, train.segmenter_losses
    else:
        model, lesson, lose = Namer(COLORS, SHAPES, width=8), teacher.cuts, train.namer_losses
    seen = []

    def losses(step):
        lost = lose(model, lesson(np.arange(2), torch.Generator().manual_seed(step)))
        seen.append(sum(value.item() for value in lost.values()))
        return lost

    train.fit(model, losses, 25, 5e-3, lambda step, running: None, 25)
    assert np.mean(seen[-5:]) < 0.6 * np.mean(seen[:5])


def test_weights_come_back_with_their_vocabulary(tmp_path):
    from perception.grounder.model import Segmenter
    from perception.grounder.namer import Namer
    from perception.grounder.storage import Grounder, load_weights, save_weights

    saved = Grounder(Segmenter(width=8), Namer(COLORS, SHAPES, width=8))
    save_weights(saved, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors")
    assert (loaded.namer.colors, loaded.namer.shapes) == (COLORS, SHAPES)
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_missing_or_foreign_weights_are_one_clear_error(tmp_path):
    from perception.grounder.detector import EmbeddedGrounder

    with pytest.raises(UserError, match=r"there is no file nowhere\.safetensors"):
        EmbeddedGrounder(weights="nowhere.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"foreign\.safetensors: do not fit"):
        EmbeddedGrounder(weights=str(foreign))


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_shipped_weights_find_what_is_there_and_nothing_else(grounder, robot, seed):
    robot.reset(seed)
    picture, ids = robot.observe().cameras["front"].rgb, robot.masks()["front"]
    things = robot.object_state()
    (found,) = grounder.detect([picture], [[thing.name for thing in things]])
    overlaps = []
    for p, thing in enumerate(things):
        mine = np.flatnonzero(found.phrase == p)
        mask, truth = found.masks[mine[0]], ids == thing.id
        overlaps.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(overlaps) > 0.7
    names = {thing.name for thing in things}
    absent = [f"{color} {shape}" for color in ("red", "blue", "yellow") for shape in ("cube", "ball")]
    absent = [name for name in absent if name not in names]
    (wrong,) = grounder.detect([picture], [absent])
    best = [wrong.scores[wrong.phrase == p].max(initial=0) for p in range(len(absent))]
    assert np.mean(np.array(best) < 0.2) >= 0.75


def test_one_word_finds_every_thing_of_that_kind_and_robot_is_one_mask(grounder, robot):
    robot.reset(7)
    picture, ids = robot.observe().cameras["front"].rgb, robot.masks()["front"]
    (found,) = grounder.detect([picture], [["object", "robot arm"]])
    things = found.keep((found.phrase == 0) & (found.scores > 0.5))
    assert len(things) == len(robot.object_state())
    arm = found.masks[found.phrase == 1]
    assert arm.shape[0] == 1
    assert (arm[0] & (ids == 100)).sum() / (arm[0] | (ids == 100)).sum() > 0.75


def test_contract_boxes_order_and_any_size(grounder, robot):
    robot.reset(8)
    picture = robot.observe().cameras["front"].rgb
    large = np.repeat(np.repeat(picture, 2, 0), 3, 1)
    small_one, large_one = grounder.detect([picture, large], [["object"], ["object", "red"]])
    assert small_one.masks.shape[1:] == (128, 128)
    assert large_one.masks.shape[1:] == (256, 384)
    for found in (small_one, large_one):
        assert found.boxes.dtype == np.float32 and found.phrase.dtype == np.int64
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        for mask, box in zip(found.masks, found.boxes, strict=True):
            left, top, right, bottom = box.astype(int)
            assert mask.any() and mask[top:bottom, left:right].sum() == mask.sum()
            assert mask[top].any() and mask[bottom - 1].any() and mask[:, left].any() and mask[:, right - 1].any()
    assert (np.diff(small_one.scores) <= 0).all()


def test_the_same_picture_gets_the_same_answer_alone_or_in_company(grounder, robot):
    robot.reset(9)
    pictures = [frame.rgb for frame in robot.observe().cameras.values()]
    alone = grounder.detect(pictures[1:], [["red cube"]])[0]
    company = grounder.detect(pictures, [["object"], ["red cube"]])[1]
    for name in ("boxes", "scores", "phrase", "masks"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(company, name))


def test_an_empty_picture_holds_nothing(grounder):
    (found,) = grounder.detect([np.full((128, 128, 3), 150, np.uint8)], [["red cube", "object"]])
    assert (found.scores < 0.5).all() and found.masks.shape == (len(found), 128, 128)


def test_the_robot_tells_the_colour_of_the_light():
    from perception.grounder.detector import whitened

    neutral, robot = torch.rand(1, 3, 128, 128) * 0.5 + 0.1, torch.zeros(128, 128, dtype=torch.bool)
    robot[:20] = True
    neutral[..., :20, :] = neutral[:, :1, :20]
    tinted = neutral * torch.tensor([1.2, 0.9, 0.9]).view(1, 3, 1, 1)
    torch.testing.assert_close(whitened(tinted, robot), neutral)
    assert whitened(tinted, torch.zeros_like(robot)) is tinted


def test_a_word_that_was_never_taught_is_an_error_with_the_nearest_one(grounder):
    picture = np.zeros((128, 128, 3), np.uint8)
    with pytest.raises(UserError, match=r"'screwdriver' was never taught"):
        grounder.detect([picture], [["red screwdriver"]])
    with pytest.raises(UserError, match=r"did you mean 'cube'"):
        grounder.detect([picture], [["red cubes"]])
    with pytest.raises(UserError, match=r"names nothing"):
        grounder.detect([picture], [["the"]])


@pytest.mark.parametrize(("phrase", "words"), [("the Red cube", ("red", "cube")), ("gray dish", ("grey", "bowl")),
                                               ("robot arm", ("robot",)), ("object", ("object",))])
def test_phrases_become_words(phrase, words):
    from perception.grounder.text import parse

    assert parse(phrase, ("red", "cube", "grey", "bowl")) == words


def test_things_that_touch_come_apart_and_a_divided_thing_stays_one():
    from perception.grounder.things import group

    kind = np.zeros((40, 60), int)
    kind[10:20, 5:25] = 1  # two squares side by side
    kind[10:20, 40:44] = kind[10:20, 46:50] = 1  # one square behind a bar
    centre = np.select([np.arange(60) < 15, np.arange(60) < 30], [9.5, 19.5], 44.5)
    votes = np.stack([np.broadcast_to(centre, kind.shape), np.full(kind.shape, 14.5)])
    y, x = np.mgrid[:40, :60]
    off = np.hypot(votes[0] - x, votes[1] - y) / 10
    masks = group(kind, votes, np.full(kind.shape, 10.0), off, (1,))
    assert sorted(mask.sum() for mask in masks) == [80, 100, 100]
    assert masks.sum(0).max() == 1
