"""Object-centric grounding: every stage through the same front-end, and its rules over views and time."""

import json

import numpy as np
import pytest
import tiny_grounding
import torch

from perception import PERCEPTION
from perception.percept import Batch, perceive, raw
from perception.stages import Detections
from robot_io import CameraFrame, Observation, UserError

RED, BLUE, GREEN = (200, 20, 20), (20, 20, 200), (20, 160, 30)
INTRINSICS = np.array([[40, 0, 15.5], [0, 40, 15.5], [0, 0, 1]], np.float32)


class Scripted:
    """A detector for tests of the rules: finds flat-coloured things by name, as surely as it is told to."""

    class Config(__import__("robot_io").registry.ComponentConfig):
        kind: str = "test_object_centric:Scripted"
        sure: float = 0.9

    def __init__(self, config):
        self.sure, self.calls = config.sure, []

    def detect(self, pictures, phrases):
        self.calls.append([list(names) for names in phrases])
        found = []
        for picture, names in zip(pictures, phrases, strict=True):
            hits = [(p, mask) for p, name in enumerate(names) for mask in things(picture, name)]
            masks = np.array([mask for _, mask in hits], bool).reshape(len(hits), *picture.shape[:2])
            boxes = np.array([[*np.argwhere(m).min(0)[::-1], *(np.argwhere(m).max(0)[::-1] + 1)] for m in masks], np.float32)
            found.append(Detections(boxes.reshape(-1, 4), np.full(len(hits), self.sure, np.float32),
                                    np.array([p for p, _ in hits], np.int64), masks))
        return found


def things(picture, name):
    """One mask for each patch of the colour that the name begins with; red and blue ones for "cube" and "object"."""
    from scipy import ndimage

    colours = {"red": [RED], "blue": [BLUE], "green": [GREEN], "cube": [RED, BLUE], "object": [RED, BLUE], "bowl": [GREEN]}.get(name.split()[0], [])
    for colour in colours:
        patches, count = ndimage.label((picture == colour).all(-1))
        yield from (patches == i for i in range(1, count + 1))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """So that `kind: test_object_centric:Scripted` names the class above."""
    import sys

    monkeypatch.setitem(sys.modules, "test_object_centric", sys.modules[__name__])


def picture(*squares):
    """A grey picture with 6-pixel squares of (x, y, colour)."""
    made = np.full((32, 32, 3), 128, np.uint8)
    for x, y, colour in squares:
        made[y:y + 6, x:x + 6] = colour
    return made


def look(instruction, front, wrist=None, memory=None, **frame):
    cameras = {"front": CameraFrame(front, **frame)} | ({} if wrist is None else {"wrist": CameraFrame(wrist, **frame)})
    return Batch.stack([Observation(cameras, np.zeros(2, np.float32), instruction)], list(cameras),
                       memory=None if memory is None else [memory])


def front_end(**options):
    return PERCEPTION.load("object_centric")(PERCEPTION.configure(
        {"kind": "object_centric", "detector": {"kind": "test_object_centric:Scripted"}, **options}))


def target(percept, view=0):
    return percept.regions.of("target")[0, view].numpy()


# Every stage through the same front-end -------------------------------------------------------------------------

MASKS = {"kind": "test_object_centric:Scripted"}
COMBINATIONS = {
    "grounding_dino+sam": {"detector": "grounding_dino", "segmenter": "sam"},
    "mm_grounding_dino+sam2": {"detector": "mm_grounding_dino", "segmenter": "sam2"},
    "groundingdino_py+segment_anything": {"detector": "groundingdino_py", "segmenter": "segment_anything"},
    "owlv2+sam2+sam2_video": {"detector": "owlv2", "segmenter": "sam2", "tracker": "sam2_video"},
    "sam3+similarity+propagate": {"detector": "sam3", "selector": "similarity", "tracker": "propagate"},
    "embedded+score+none": {"detector": "embedded", "selector": "score", "tracker": "none"},
    "oracle+relation": {"detector": "oracle", "selector": "relation"},
    "sam3+set_of_mark": {"detector": "sam3", "selector": "set_of_mark"},
}
SIZES = {"groundingdino_py": {**tiny_grounding.DINO_PY, "shortest": 32, "longest": 64}, "segment_anything": {"encoder": tiny_grounding.SAM_ENCODER},
         "similarity": {"threshold": -1.0, "margin": 0.0, "others": ()}}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Tiny checkpoints, each made once."""
    made = {}

    def weights(kind):
        if kind not in made:
            made[kind] = str(tiny_grounding.save(kind, tmp_path_factory.mktemp(kind)))
        return made[kind]

    return weights


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_stage_runs_through_the_same_front_end(name, checkpoints):
    def configure(kind):
        published = {"weights": checkpoints(kind)} if kind in tiny_grounding.MAKERS else {}
        if kind in ("grounding_dino", "mm_grounding_dino", "groundingdino_py", "owlv2", "sam3"):
            published["candidates"] = 1
        if kind == "set_of_mark":
            return {"kind": kind, "side": 32, "asker": {"kind": "local", "weights": checkpoints("local"), "max_tokens": 4}}
        return {"kind": kind, **published, **SIZES.get(kind, {})}

    chosen = {stage: configure(kind) for stage, kind in COMBINATIONS[name].items()}
    grounding = PERCEPTION.load("object_centric")(PERCEPTION.configure(
        {"kind": "object_centric", "threshold": 0.0, "ground_every": 2, **chosen}))
    grounding.requires_grad_(False)
    assert not any("model" in key for key in grounding.state_dict())  # published weights are named, not carried
    labels = {"red cube": np.eye(32, dtype=bool), "white bowl": ~np.eye(32, dtype=bool), "robot": np.zeros((32, 32), bool)}
    front, memory = picture((4, 4, RED), (20, 20, GREEN)), {}
    for step in range(3 if "tracker" in chosen else 1):
        batch = look("put the red cube in the bowl", front, front[:, ::-1].copy(), memory, labels=labels)
        percept = perceive([grounding], batch)
        regions = percept.regions
        assert regions.masks.shape == (1, 2, 3, 32, 32) and regions.masks.dtype == torch.bool
        assert regions.phrases == [("red cube", "bowl", "robot")]
        assert torch.equal(regions.scores > 0, regions.masks.flatten(3).any(3)) or step == 1
        assert ((regions.scores >= 0) & (regions.scores <= 1)).all()
        assert torch.equal(percept.images, raw(batch).images)  # it leaves the images alone
        assert (percept.evidence["object_centric/candidates"][0] is None) == (step == 1)
    assert percept.abstain.shape == (1,)


# Configuration -----------------------------------------------------------------------------------------------------


def test_boxes_without_a_segmenter_are_refused_before_anything_is_loaded():
    with pytest.raises(UserError, match=r"owlv2: it gives boxes only; expected masks.*add a segmenter"):
        front_end(detector={"kind": "owlv2", "weights": "/nowhere"})


def test_a_wrong_option_of_a_stage_is_named():
    with pytest.raises(ValueError, match=r"trackers 'propagate'.*did you mean 'reach'"):
        front_end(tracker={"kind": "propagate", "reech": 1})
    with pytest.raises(ValueError, match=r"did you mean 'embedded'"):
        front_end(detector={"kind": "embeded"})


def test_the_configuration_survives_json():
    config = PERCEPTION.configure({"kind": "object_centric", "detector": {"kind": "oracle"}, "tracker": {"kind": "propagate", "reach": 2}})
    assert PERCEPTION.configure(json.loads(config.model_dump_json())) == config


def test_an_oracle_says_so():
    grounding = front_end(detector={"kind": "oracle"})
    assert grounding.oracle and not front_end().oracle
    labels = {"red cube": np.eye(32, dtype=bool)}
    percept = perceive([grounding], look("pick up the red cube", picture(), labels=labels))
    assert "upper bound" in percept.evidence["object_centric/detector"]
    with pytest.raises(UserError, match=r"robot\.oracle=true"):
        perceive([grounding], look("pick up the red cube", picture()))


# Choosing ---------------------------------------------------------------------------------------------------------


def test_each_role_gets_its_own_mask_and_absent_roles_none():
    percept = perceive([front_end(keep_robot=False)], look("put the red cube in the bowl", picture((4, 4, RED), (20, 20, GREEN))))
    assert percept.regions.roles == ("target", "container")
    assert target(percept)[5, 5] and target(percept).sum() == 36
    assert percept.regions.of("container")[0, 0, 21, 21]
    percept = perceive([front_end()], look("pick up the red cube", picture((4, 4, RED))))
    assert not percept.regions.of("container").any() and percept.regions.phrases == [("red cube", "", "robot")]
    assert percept.abstain is None  # training: every frame stands alone


def test_a_batch_is_one_call_of_the_detector():
    grounding = front_end()
    observations = [Observation({name: CameraFrame(picture((x, 4, RED))) for name in ("front", "wrist")}, np.zeros(1, np.float32), f"pick up the {name}")
                    for x, name in ((4, "red cube"), (9, "blue ball"), (14, "red cube"))]
    percept = perceive([grounding], Batch.stack(observations, ["front", "wrist"]))
    assert len(grounding.detector.calls) == 1 and len(grounding.detector.calls[0]) == 6
    assert percept.regions.of("target").flatten(2).sum(2).tolist() == [[36, 36], [0, 0], [36, 36]]


def test_a_relation_is_judged_in_the_base_view_and_followed_into_the_other():
    front = picture((2, 10, BLUE), (22, 10, RED))
    wrist = picture((2, 10, RED), (22, 10, BLUE))  # there, left is right
    percept = perceive([front_end()], look("pick up the cube on the left", front, wrist))
    assert target(percept)[11, 3] and target(percept, 1)[11, 23]
    percept = perceive([front_end()], look("pick up the cube on the left", picture(), wrist))
    assert not target(percept, 1).any()  # not seen in the base view: nobody knows which is meant


def test_excluded_things_are_never_the_target():
    both = picture((2, 10, BLUE), (22, 10, RED))
    percept = perceive([front_end()], look("pick up the cube, not the blue one", both))
    assert not target(percept)[11, 3] and target(percept)[11, 23]


def test_another_view_prefers_what_stands_where_the_base_view_saw_it():
    depth = np.full((32, 32), 1, np.float32)
    front, wrist = picture((2, 10, RED)), picture((3, 11, RED), (22, 10, RED))
    geometry = {"depth": depth, "intrinsics": INTRINSICS, "world_from_camera": np.eye(4, dtype=np.float32)}
    percept = perceive([front_end()], look("pick up the red cube", front, wrist, **geometry))
    assert target(percept, 1)[13, 5] and target(percept, 1).sum() == 36
    elsewhere = perceive([front_end()], look("pick up the red cube", front, picture((22, 10, RED)), **geometry))
    assert target(elsewhere).any() and not target(elsewhere, 1).any()


def test_a_thing_that_one_view_does_not_recognise_is_taken_over_from_the_other_by_place():
    depth = np.full((32, 32), 1, np.float32)
    geometry = {"depth": depth, "intrinsics": INTRINSICS, "world_from_camera": np.eye(4, dtype=np.float32)}
    front, wrist = picture((2, 10, RED)), picture((3, 11, BLUE), (22, 10, GREEN))  # in the wrist's light the red one looks blue
    percept = perceive([front_end()], look("pick up the red cube", front, wrist, **geometry))
    assert target(percept, 1)[12, 4] and not target(percept, 1)[11, 23]
    percept = perceive([front_end()], look("pick up the red cube", front, picture((22, 10, BLUE)), **geometry))
    assert not target(percept, 1).any()
    percept = perceive([front_end(generic_phrase="")], look("pick up the red cube", front, wrist, **geometry))
    assert not target(percept, 1).any()


# Over time --------------------------------------------------------------------------------------------------------


def test_an_absent_target_is_abstained_from_until_it_shows_clearly():
    memory, grounding = {}, front_end()
    percept = perceive([grounding], look("pick up the red cube", picture((4, 4, BLUE)), memory=memory))
    assert percept.abstain.tolist() == [True] and not target(percept).any()
    grounding.detector.sure = 0.4
    percept = perceive([grounding], look("pick up the red cube", picture((4, 4, RED)), memory=memory))
    assert percept.abstain.tolist() == [True] and not target(percept).any()  # weak evidence
    grounding.detector.sure = 0.9
    percept = perceive([grounding], look("pick up the red cube", picture((4, 4, RED)), memory=memory))
    assert percept.abstain.tolist() == [False] and target(percept).any()


def test_a_target_that_was_seen_is_never_abstained_from_when_fingers_hide_it():
    memory, grounding = {}, front_end()
    for front in (picture((4, 4, RED)), picture(), picture()):
        percept = perceive([grounding], look("pick up the red cube", front, memory=memory))
        assert percept.abstain.tolist() == [False]


def test_one_view_is_enough_and_several_first_looks_may_decide():
    empty, red = picture(), picture((4, 4, RED))
    assert not perceive([front_end()], look("pick up the red cube", empty, red, memory={})).abstain.any()
    memory, grounding = {}, front_end(detector={"kind": "test_object_centric:Scripted", "sure": 0.4}, first_looks=2, ground_every=9)
    assert perceive([grounding], look("pick up the red cube", empty, memory=memory)).abstain.all()
    assert not perceive([grounding], look("pick up the red cube", red, memory=memory)).abstain.any()


def test_abstaining_can_be_switched_off():
    grounding = front_end(abstain=False)
    assert perceive([grounding], look("pick up the red cube", picture(), memory={})).abstain is None and not grounding.abstains


def test_a_new_instruction_starts_afresh():
    memory, grounding = {}, front_end(ground_every=100)
    front = picture((4, 4, RED), (20, 20, BLUE))
    assert target(perceive([grounding], look("pick up the red cube", front, memory=memory)))[5, 5]
    assert target(perceive([grounding], look("pick up the blue cube", front, memory=memory)))[21, 21]


def test_between_groundings_the_tracker_carries_and_the_detector_rests():
    memory, grounding = {}, front_end(ground_every=3, tracker={"kind": "propagate"})
    for step in range(6):
        percept = perceive([grounding], look("pick up the red cube", picture((4 + 2 * step, 8, RED)), memory=memory))
        assert target(percept)[9:13, 5 + 2 * step:9 + 2 * step].all()
        assert percept.regions.scores[0, 0, 0] == pytest.approx(0.9)
    assert len(grounding.detector.calls) == 2


def test_a_weak_detection_elsewhere_does_not_replace_what_is_tracked():
    def run(sure):
        memory, grounding = {}, front_end(tracker={"kind": "propagate"})
        perceive([grounding], look("pick up the cube", picture((4, 8, RED)), memory=memory))
        grounding.detector.sure = sure
        batch = look("pick up the cube", picture((4, 8, (190, 25, 25)), (24, 20, BLUE)), memory=memory)  # the red one is not recognised
        return target(perceive([grounding], batch))

    assert run(0.4)[9, 5] and not run(0.4)[21, 25]
    assert run(0.9)[21, 25] and not run(0.9)[9, 5]


def test_two_episodes_in_one_batch_do_not_mix():
    grounding, memories = front_end(ground_every=2), [{}, {}]

    def batch(first, second, which):
        observations = [Observation({"front": CameraFrame(front)}, np.zeros(1, np.float32), "pick up the red cube") for front in (first, second)]
        return Batch.stack([observations[i] for i in which], ["front"], memory=[memories[i] for i in which])

    red, empty = picture((4, 4, RED)), picture()
    perceive([grounding], batch(red, empty, [0]))
    percept = perceive([grounding], batch(red, empty, [0, 1]))  # the first one only tracks now
    assert percept.abstain.tolist() == [False, True]
    assert len(grounding.detector.calls[-1]) == 1
    assert [candidates is None for candidates in percept.evidence["object_centric/candidates"]] == [True, False]


# In the simulator -------------------------------------------------------------------------------------------------


def test_the_tabletop_tells_an_oracle_and_nobody_else():
    pytest.importorskip("mujoco")
    from robot_io.messages import encode_observation
    from robot_io.tabletop.robot import TabletopRobot

    robot = TabletopRobot(task={"distractors": 3}, image_size=64, oracle=True)
    try:
        robot.reset(0)
        observation = robot.observe()
        names = {item.name for item in robot.layout.items}
        wanted = robot.layout.items[robot.layout.target].name
        assert names | {"robot"} == set(observation.cameras["front"].labels)
        assert not any("label" in key for key in encode_observation(observation, robot.spec.observation))
        batch = Batch.stack([observation], ["front", "wrist"], memory=[{}])
        percept = perceive([front_end(detector={"kind": "oracle"})], batch)
        for view, camera in enumerate(("front", "wrist")):
            np.testing.assert_array_equal(target(percept, view), observation.cameras[camera].labels[wanted])
        assert not percept.abstain.any() and percept.regions.of("robot").any()
    finally:
        robot.close()
