"""Demonstrations on disk: LeRobotDataset v3.0 written and read, v2.1 read; without torch.

    recorder = Recorder("data/pick", robot.spec)        # resumes where it stopped
    recorder.add(observation, action)                   # once per control step
    recorder.save_episode(success=True)
    recorder.finish()

    data = Dataset("data/pick")
    data.check(spec=robot.spec)                         # one clear UserError for bad input
    data.column("action")                               # float32 [frames, A]
    data.rgb("front", data.episodes[0])                 # uint8 [T, H, W, 3]
"""

from robot_io.dataset.infer import infer_spec
from robot_io.dataset.layout import Episode
from robot_io.dataset.reader import Dataset
from robot_io.dataset.recorder import Recorder
from robot_io.dataset.video import CODECS

__all__ = ["CODECS", "Dataset", "Episode", "Recorder", "infer_spec"]
