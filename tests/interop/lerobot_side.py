"""What LeRobot itself makes of a data set. Runs in an environment that has `lerobot==0.4.4`; see check_lerobot.py.

python lerobot_side.py dump ROOT OUT.npz BACKEND      every frame as LeRobotDataset returns it
python lerobot_side.py convert PARENT NAME            its converter v2.1 -> v3.0, in place
"""

import sys
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")


def dump(root: str, out: str, backend: str) -> None:
    """Iterate over a LeRobotDataset and store what it gives: pictures as `uint8 [frames, H, W, 3]`, the rest as it is."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset("local/check", root=root, video_backend=backend)
    columns: dict[str, list] = {}
    for i in range(len(data)):
        for key, value in data[i].items():
            if key in data.meta.camera_keys:
                value = (value * 255).round().byte().permute(1, 2, 0)
            columns.setdefault(key, []).append(value if isinstance(value, str) else value.numpy())
    episodes = data.meta.episodes
    stats = {
        f"stats/{key}/{name}": value for key, entry in (data.meta.stats or {}).items() for name, value in entry.items()
    }
    np.savez(
        out,
        **{key: np.stack(values) if key != "task" else np.array(values) for key, values in columns.items()},
        **stats,
        bounds=np.array([episodes["dataset_from_index"], episodes["dataset_to_index"]]).T,
    )


def convert(parent: str, name: str) -> None:
    from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset

    convert_dataset(repo_id=name, root=Path(parent), push_to_hub=False)


if __name__ == "__main__":
    {"dump": dump, "convert": convert}[sys.argv[1]](*sys.argv[2:])
