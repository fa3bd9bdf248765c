"""Trackers: what they carry, and what they do when the thing is hidden."""

import numpy as np
import pytest
import tiny_grounding
import torch

from perception.grounding import TRACKERS
from perception.grounding.candidates import overlaps

SIZE = 64


def scene(x: int, y: int, covered: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A red square among others on a mottled table, and its mask."""
    picture = np.random.default_rng(0).integers(110, 140, (SIZE, SIZE, 3), dtype=np.uint8)
    picture[2:12, 50:60], picture[50:60, 5:15] = (30, 160, 40), (220, 190, 20)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y:y + 10, x:x + 10] = True
    picture[mask] = (190, 25, 30)
    if covered:
        picture[y - 2:y + 12, x - 2:x + 12], mask = (60, 60, 62), np.zeros_like(mask)
    return picture, mask


def propagate():
    return TRACKERS.load("propagate")(TRACKERS.configure({"kind": "propagate"}))


def test_propagation_follows_a_moving_thing():
    tracker = propagate()
    picture, mask = scene(10, 20)
    memory = tracker.start(picture, np.stack([mask, np.zeros_like(mask)]))
    for step in range(1, 9):
        picture, truth = scene(10 + 4 * step, 20 + 2 * step)
        memory, masks = tracker.step(memory, picture)
        assert overlaps(masks[:1], truth[None])[0, 0] > 0.8
        assert not masks[1].any()


def test_propagation_lets_go_of_what_is_covered_and_finds_it_again():
    tracker = propagate()
    picture, mask = scene(20, 20)
    memory = tracker.start(picture, mask[None])
    for _ in range(3):
        memory, masks = tracker.step(memory, scene(20, 20, covered=True)[0])
        assert not masks.any()
    picture, truth = scene(24, 20)
    _, masks = tracker.step(memory, picture)
    assert overlaps(masks, truth[None])[0, 0] > 0.8


def gripper(x: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark palm with two light fingers, between which the table shows down to the picture's edge, where a bar closes them."""
    picture = np.random.default_rng(0).integers(110, 140, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    for rows, columns, colour in ((slice(20, 28), slice(x, x + 24), (40, 40, 45)), (slice(28, 50), slice(x, x + 6), (225, 225, 220)),
                                  (slice(28, 50), slice(x + 18, x + 24), (225, 225, 220)), (slice(50, 54), slice(x, x + 24), (40, 40, 45))):
        picture[rows, columns], mask[rows, columns] = colour, True
    return picture, mask


def test_propagation_keeps_every_part_of_a_gripper_and_not_what_shows_between_its_fingers():
    tracker = propagate()
    picture, mask = gripper(16)
    memory = tracker.start(picture, mask[None])
    for x in (18, 20, 21):
        picture, truth = gripper(x)
        memory, masks = tracker.step(memory, picture)
        assert overlaps(masks, truth[None])[0, 0] > 0.9
        assert not masks[0, 32:46, x + 8:x + 16].any()


def test_one_tracker_serves_two_episodes():
    tracker = propagate()
    memories = [tracker.start(scene(x, 20)[0], scene(x, 20)[1][None]) for x in (10, 35)]
    for i, x in enumerate((10, 35)):
        _, masks = tracker.step(memories[i], scene(x + 3, 22)[0])
        assert overlaps(masks, scene(x + 3, 22)[1][None])[0, 0] > 0.8


def test_without_a_tracker_masks_stand_still():
    tracker = TRACKERS.load("none")(TRACKERS.configure({"kind": "none"}))
    mask = scene(10, 20)[1][None]
    _, masks = tracker.step(tracker.start(scene(10, 20)[0], mask), scene(40, 40)[0])
    np.testing.assert_array_equal(masks, mask)
    assert not tracker.carries


@pytest.fixture(scope="module")
def sam2_video(tmp_path_factory):
    weights = tiny_grounding.save("sam2_video", tmp_path_factory.mktemp("sam2_video"))
    return TRACKERS.load("sam2_video")(TRACKERS.configure({"kind": "sam2_video", "weights": str(weights)}))


def test_sam2_forgets_frames_without_changing_what_it_sees(sam2_video):
    """Against the library's own streaming loop, which keeps every frame."""
    pictures, first = [scene(10 + i, 20)[0] for i in range(24)], scene(10, 20)[1]
    memory = sam2_video.start(pictures[0], np.stack([np.zeros_like(first), first]))
    ours = []
    for picture in pictures[1:]:
        memory, masks = sam2_video.step(memory, picture)
        assert not masks[0].any()
        ours.append(masks[1])
    assert len(memory.session.processed_frames) == 1
    kept = memory.session.output_dict_per_obj[0]["non_cond_frame_outputs"]
    assert len(kept) < 20

    model, processor = sam2_video.model.model, sam2_video._processor
    session = processor.init_video_session(dtype=torch.float32)
    processor.add_inputs_to_inference_session(session, 0, 1, input_masks=[first])
    with torch.inference_mode():
        for i, picture in enumerate(pictures):
            inputs = processor(images=picture, return_tensors="pt")
            output = model(inference_session=session, frame=inputs["pixel_values"][0])
            theirs = processor.post_process_masks([output.pred_masks], original_sizes=[[SIZE, SIZE]])[0][0, 0].numpy()
            if i:
                np.testing.assert_array_equal(ours[i - 1], theirs)
    assert 0 < np.mean(ours) < 1


def test_sam2_with_nothing_to_track_sees_nothing(sam2_video):
    picture = scene(10, 20)[0]
    _, masks = sam2_video.step(sam2_video.start(picture, np.zeros((2, SIZE, SIZE), bool)), picture)
    assert masks.shape == (2, SIZE, SIZE) and not masks.any()
