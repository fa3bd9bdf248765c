"""A recipe: everything that decides what policy comes out, in one typed, frozen, printable value.

Presets are Python functions in `vla.recipes` that return one; `load_recipe` takes a preset's name or a YAML file, plus overrides
by dotted path (`head.kind=diffusion`, `train.steps=2000`, `perception=[{kind: shift}]`). Components are named by `kind`
and validated by their own `Config`, found in their package's registry. The resolved recipe is written as YAML into every
run and every policy folder, and that file is itself accepted wherever a preset is.

Fields marked `RUN_ONLY` change how a run is carried out (where data lie, how often to save), not what it computes: they
are left out of `Recipe.hash`, and may differ when a run continues.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backbones import BACKBONES
from heads import HEADS
from perception import PERCEPTION
from robot_io import UserError
from robot_io.registry import Registry, component
from vla.overrides import apply_overrides, explain

RUN_ONLY = "run_only"


def _component(registry: Registry) -> Any:
    """The type of a field that holds one component's configuration, whichever its kind."""
    return component(registry, lambda error, kind: explain(error, registry.load(kind).Config, f"{registry.noun} '{kind}'"))


class Section(BaseModel):
    """Base of every part of a recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ActionMode = Literal["absolute", "delta", "relative"]


class Mixed(Section):
    """A further data set to learn from (see `vla.sources`). Its names for what the first one calls otherwise; null: it has none."""

    root: Annotated[Path, RUN_ONLY] = Field(description="folder of a LeRobotDataset")
    weight: float = Field(1, gt=0, description="how often it is drawn from, beside the others' weights")
    cameras: dict[str, str | None] = Field({}, description="its camera for a camera of the first data set")
    actions: dict[str, str | None] = Field({}, description="its action for an action of the first")
    state: dict[str, str | None] = Field({}, description="its state for a state of the first")
    action_mode: ActionMode | None = Field(None, description="what its actions mean, if it does not say so itself")


class Data(Section):
    """Which demonstrations, and what of them the policy sees."""

    root: Annotated[Path, RUN_ONLY] = Field(Path("data"), description="folder of a LeRobotDataset")
    weight: float = Field(1, gt=0, description="how often it is drawn from, beside the weights of `mixture`")
    mixture: tuple[Mixed, ...] = Field((), description="further data sets")
    cameras: tuple[str, ...] | None = Field(None, description="views in this order; null for all of them")
    state: bool | tuple[str, ...] = Field(True, description="read the robot's state: all, none, or these entries")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the episodes held out")
    successes_only: bool = Field(True, description="leave out episodes that are marked as failures")
    action_mode: ActionMode | None = Field(None, description="what the actions mean, for data that do not say so themselves")
    store: Literal["raw", "jpeg", "stream"] = Field("raw", description="decoded once into lossless arrays, or into a compact store; or "
                                                    "never stored")
    store_gb: Annotated[float | None, RUN_ONLY] = Field(None, gt=0, description="largest store; null: what leaves the disk some room")
    stream_gb: float = Field(1, gt=0, description="memory for streamed pictures")
    verify: Annotated[bool, RUN_ONLY] = Field(True, description="read stores back and compare with their checksums before use")
    workers: Annotated[int | None, RUN_ONLY] = Field(None, ge=1, description="threads that decode; null for one per core")
    cache: Annotated[Path | None, RUN_ONLY] = Field(None, description="decoded frames; null for ~/.cache/swapvla")


class Normalization(Section):
    """How numbers are scaled (see `vla.normalize`)."""

    action: Literal["quantile", "minmax", "mean_std"] = "quantile"
    state: Literal["quantile", "minmax", "mean_std"] = "mean_std"


class Lora(Section):
    """Low-rank adaptation (Hu et al., arXiv 2106.09685), DoRA (arXiv 2402.09353), rsLoRA (arXiv 2312.03732)."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    dora: bool = False
    rslora: bool = False
    targets: tuple[str, ...] = Field((), description="regular expressions over module names; empty: the backbone's own")


class Tuning(Section):
    """What of the backbone is trained (see `vla.tuning`). The head always is, and so are the backbone's `new_modules`."""

    mode: Literal["full", "lora", "frozen"] = Field("full", description="the trunk: all but tower and projector")
    vision: Literal["full", "lora", "frozen"] = Field("full", description="the vision tower")
    projector: Literal["full", "lora", "frozen"] | None = Field(None, description="between the two; null: as the tower")
    frozen: tuple[str, ...] = Field((), description="regular expressions; parameters found are frozen whatever the modes")
    trainable: tuple[str, ...] = Field((), description="… are trained, whatever the modes and `frozen`")
    quantize: Literal["nf4", "int8"] | None = Field(None, description="how the frozen layers of the trunk are kept (QLoRA)")
    quantize_vision: bool = Field(False, description="the vision tower's too")
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _quantise_what_stands_still(self) -> Tuning:
        wanted = {"mode": self.quantize is not None, "vision": self.quantize_vision}
        for part in (name for name, quantised in wanted.items() if quantised):
            if getattr(self, part) == "full":
                raise UserError(f"tuning.{part}", "'full', but quantised weights cannot be trained", "'lora' or 'frozen'",
                                f"set tuning.{part}=lora, or leave it in full precision")
        if self.quantize_vision and self.quantize is None:
            raise UserError("tuning.quantize_vision", "true, but nothing says how", "tuning.quantize=nf4 or int8",
                            "set tuning.quantize")
        return self


class Train(Section):
    """Imitation training with AdamW, linear warm-up and cosine decay."""

    steps: int = Field(2000, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1, description="parts a batch is split into, to fit in memory")
    learning_rate: float = Field(3e-4, gt=0)
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    final_learning_rate: float = Field(0.05, ge=0, le=1, description="where the cosine ends, as a share of learning_rate")
    weight_decay: float = Field(1e-2, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float | None = Field(1.0, gt=0, description="largest gradient norm")
    ema: float | None = Field(0.999, gt=0, lt=1, description="decay of the weights' moving average; null for none")
    seed: int = Field(0, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: Annotated[bool, RUN_ONLY] = Field(
        False, description="compute the backbone's activations again going backward: less memory, a third more time")
    compile: Annotated[bool, RUN_ONLY] = Field(False, description="torch.compile: slower to start, faster from then on")
    shard: Annotated[bool, RUN_ONLY] = Field(False, description="FSDP2: each of several processes keeps a slice of every weight")
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], RUN_ONLY] = Field((), description="where else to log")
    cache_features: bool | None = Field(None, description="compute frozen perception once; null: whenever possible")
    cached_views: int = Field(0, ge=0, description="augmented views of every frame to compute ahead and draw from; 0: augment anew at "
                              "every step, which frozen perception after it then has to see")
    feature_dtype: Literal["float16", "float32"] = "float16"
    save_every: Annotated[int, RUN_ONLY] = Field(500, ge=1)
    val_every: Annotated[int, RUN_ONLY] = Field(500, ge=1)
    log_every: Annotated[int, RUN_ONLY] = Field(20, ge=1)
    device: Annotated[Literal["auto", "cpu"], RUN_ONLY] = "auto"


class Evaluation(Section):
    """Closed-loop trials."""

    trials: Annotated[int, RUN_ONLY] = Field(100, ge=1)
    seed: Annotated[int, RUN_ONLY] = Field(20_000, ge=0, description="first scene; the test scenes begin at 20000")
    workers: Annotated[int, RUN_ONLY] = Field(2, ge=1)
    max_steps: int | None = Field(None, ge=1, description="a limit below the robot's own")


class Document(Section):
    """A whole description of a run: read from YAML, written as YAML, hashed, compared."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Validate; the first mistake is a `UserError` in the project's own words."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise explain(error, cls) from None

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        return cls.from_dict(_read_yaml(path))

    def to_dict(self) -> dict[str, Any]:
        """Resolved: every default written out. Plain JSON types."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    @property
    def identity(self) -> dict[str, Any]:
        """`to_dict` without the run-only fields: what decides the result."""
        return _without_run_only(self, self.to_dict())

    @property
    def hash(self) -> str:
        """A short digest of `identity`: equal hashes, equal policies (given equal data)."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    def differences(self, other: Self) -> list[str]:
        """`path: ours against theirs` for everything in `identity` that differs."""
        ours, theirs = dict(_leaves(self.identity)), dict(_leaves(other.identity))
        return [f"{path}: {ours.get(path, 'absent')} against {theirs.get(path, 'absent')}"
                for path in sorted(ours.keys() | theirs.keys()) if ours.get(path) != theirs.get(path)]


class Recipe(Document):
    """See the module's text. `horizon` steps are predicted, `execute` of them carried out before the next prediction."""

    name: Annotated[str, RUN_ONLY] = "unnamed"
    robot: dict[str, Any] = Field({"kind": "tabletop"}, description="validated by the robot when it is made")
    data: Data = Data()
    perception: tuple[_component(PERCEPTION), ...] = ()
    backbone: _component(BACKBONES)
    head: _component(HEADS)
    horizon: int = Field(8, ge=1)
    execute: int = Field(4, ge=1)
    normalization: Normalization = Normalization()
    tuning: Tuning = Tuning()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _execute_what_is_predicted(self) -> Recipe:
        if self.execute > self.horizon:
            raise UserError("execute", f"{self.execute} steps", f"at most horizon = {self.horizon}",
                            "lower execute or raise horizon")
        return self


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """A preset by name or a recipe by YAML file, with `path=value` overrides (values are YAML).

    Raises:
        UserError: no such preset or file, a malformed override, an unknown key, a value out of range.
    """
    from vla.recipes import PRESETS  # presets are made of this module's classes

    if str(source) in PRESETS:
        recipe = PRESETS[str(source)]()
    elif Path(source).is_file():
        recipe = Recipe.from_yaml(Path(source))
    else:
        raise UserError("recipe", f"no preset and no file is called '{source}'", f"a preset ({', '.join(sorted(PRESETS))}) or "
                        "the path of a recipe.yaml", "check the name")
    return Recipe.from_dict(apply_overrides(recipe.to_dict(), overrides or []))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}", f"is not YAML ({error})", "a file written by `vla train`", "correct it") from None
    if not isinstance(data, dict):
        raise UserError(f"recipe {path}", f"holds a {type(data).__name__}", "a mapping of recipe fields", "correct it")
    return data


def _without_run_only(model: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, field in type(model).model_fields.items():
        if RUN_ONLY not in field.metadata:
            value = getattr(model, name)
            if isinstance(value, Section):
                kept[name] = _without_run_only(value, dumped[name])
            elif isinstance(value, tuple) and value and all(isinstance(one, Section) for one in value):
                kept[name] = [_without_run_only(*pair) for pair in zip(value, dumped[name], strict=True)]
            else:
                kept[name] = dumped[name]
    return kept


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
