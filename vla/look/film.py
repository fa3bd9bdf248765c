"""A rollout for the rerun viewer (`rerun film.rrd`): what the robot saw, what perception made of it, what the robot did.

    world/CAMERA            pose and lens of each camera, in the base frame; its colour and depth pictures below it
    world/CAMERA/regions    what grounding selected, one class per role
    seen/CAMERA             what the policy sees
    world/objects           where object tokens place things
    world/cloud             the points of `point_cloud`
    state/NAME, action/NAME every number over time; `said`: captions, and holding still

Two timelines: `time` on the robot's clock, and `step`. Needs the extra `look` (rerun-sdk).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perception.geometric import SET1
from perception.percept import Percept
from perception.regions import ROLES
from robot_io import Observation, UserError
from robot_io.files import replacing
from robot_io.registry import load_address
from robot_io.robot import Driver
from robot_io.specs import RobotSpec
from vla.evaluate.drivers import make_robot
from vla.evaluate.episode import Trial, run_episode
from vla.look import Eyes, stages


def film(eyes: Eyes, config: dict[str, Any], seed: int, out: Path) -> Trial:
    """Drive the scene of `seed` with the eyes' own policy, or with the simulator's expert, and write the film.

    Raises:
        UserError: eyes without a policy and a simulator without an expert.
        ModuleNotFoundError: rerun is not installed (the command line names the extra).
    """
    import rerun

    robot = make_robot(config)
    try:
        driver = _driver(eyes, robot)
        with replacing(out) as partial:
            recording = rerun.RecordingStream("swapvla", recording_id=f"{eyes.name}-{seed}")
            recording.save(partial)
            recorder = Recorder(recording, eyes, robot.spec)
            trial = run_episode(robot, driver, seed=seed, execute=eyes.policy.recipe.execute if eyes.policy else None,
                                observer=recorder.add)
            recording.disconnect()
        return trial
    finally:
        robot.close()


def _driver(eyes: Eyes, robot: Any) -> Driver:
    if eyes.policy is not None:
        return eyes.policy
    if not hasattr(robot, "expert"):
        raise UserError(f"recipe '{eyes.name}'", "it has no trained policy, and the robot no expert to drive it", "something "
                        "that drives the robot", "give the folder of a trained policy")
    return load_address(robot.expert)(robot)


class Recorder:
    """Adds control steps to a rerun recording; perceives each of them with a memory of its own."""

    def __init__(self, recording: Any, eyes: Eyes, spec: RobotSpec) -> None:
        self.recording, self.eyes, self.spec = recording, eyes, spec
        self.memory: dict[str, Any] = {}
        self.steps = 0
        import rerun

        classes = [rerun.AnnotationInfo(1 + i, role, SET1[role]) for i, role in enumerate(ROLES)]
        recording.log("/", rerun.AnnotationContext(classes), static=True)

    def add(self, observation: Observation, action: np.ndarray) -> None:
        import rerun

        self.recording.set_time("time", duration=observation.time)
        self.recording.set_time("step", sequence=self.steps)
        self.steps += 1
        batch = self.eyes.batch(observation, self.memory)
        percept = stages(self.eyes, batch)[-1].percept
        depth = {name: values[0].cpu().numpy() for name, values in batch.depth.items()}
        if percept.depth is not None:
            depth = dict(zip(batch.cameras, percept.depth[0].cpu().numpy(), strict=True))
        for view, name in enumerate(batch.cameras):
            self._camera(name, observation, depth.get(name))
            if percept.regions is not None:
                self.recording.log(f"world/{name}/regions", rerun.SegmentationImage(_classes(percept, view)))
            if percept.images is not None:
                seen = percept.images[0, view].permute(1, 2, 0).clamp(0, 1) * 255
                self.recording.log(f"seen/{name}", rerun.Image(seen.round().byte().cpu().numpy()))
        if "point_cloud/points" in percept.evidence:
            cloud = percept.evidence["point_cloud/points"]
            points, colors = (values[0][cloud.mask[0]].cpu().numpy() for values in (cloud.points, cloud.colors))
            self.recording.log("world/cloud", rerun.Points3D(points, colors=colors, radii=0.002))
        self._objects(percept)
        for group, names, values in (("state", self.spec.observation.state, observation.state),
                                     ("action", self.spec.action.names, action)):
            for name, value in zip(names, values, strict=True):
                self.recording.log(f"{group}/{name}", rerun.Scalars(float(value)))
        holds = percept.abstain is not None and bool(percept.abstain[0])
        said = [f"**{observation.instruction}**", *percept.text, *(["holds still"] if holds else [])]
        self.recording.log("said", rerun.TextDocument("\n\n".join(said), media_type="text/markdown"))

    def _camera(self, name: str, observation: Observation, depth: np.ndarray | None) -> None:
        import rerun

        frame, path = observation.cameras[name], f"world/{name}"
        height, width = frame.rgb.shape[:2]
        if frame.world_from_camera is not None:
            pose = frame.world_from_camera
            self.recording.log(path, rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        if frame.intrinsics is not None:
            self.recording.log(path, rerun.Pinhole(image_from_camera=frame.intrinsics, resolution=[width, height],
                                                   camera_xyz=rerun.ViewCoordinates.RDF))
        self.recording.log(f"{path}/rgb", rerun.Image(frame.rgb))
        if depth is not None:
            self.recording.log(f"{path}/depth", rerun.DepthImage(depth.astype(np.float32), meter=1.0))

    def _objects(self, percept: Percept) -> None:
        import rerun

        if "object_tokens/position" not in percept.evidence:
            return
        roles, position, extent, seen = (percept.evidence[f"object_tokens/{name}"]
                                         for name in ("roles", "position", "extent", "seen"))
        seen = seen[0].cpu().numpy()
        shown = [role for role, there in zip(roles, seen, strict=True) if there]
        self.recording.log("world/objects", rerun.Boxes3D(
            centers=position[0].cpu().numpy()[seen], sizes=extent[0].cpu().numpy()[seen], labels=shown,
            colors=[SET1[role] for role in shown]))


def _classes(percept: Percept, view: int) -> np.ndarray:
    """Regions of a view as one picture of class numbers, the target on top."""
    masks = percept.regions.masks[0, view].cpu().numpy()
    classes = np.zeros(masks.shape[1:], np.uint8)
    for role in reversed(percept.regions.roles):
        classes[masks[percept.regions.roles.index(role)]] = 1 + ROLES.index(role)
    return classes
