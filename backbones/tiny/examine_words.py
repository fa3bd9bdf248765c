"""What `tiny` says, counted: `python -m backbones.tiny.examine_words --scenes SEEN --held-out HELD_OUT`, into `docs/results/tiny_words.json`.

Captions are compared whole (`exact`) and thing by thing: `named`, of the things that show those that are named by colour and shape;
`invented`, of the things named those that do not show; `order`, of the pairs of rightly named things on the table (3 cm apart sideways or
more) those in the right order; `hand`, what the gripper holds or that it is empty. Of answers those count that are right word by word. Beside them
stand the share that the commonest answer of that very exam would get right (`majority`), and what the same speaker gets right when it is shown the
pictures of another scene (`elsewhere`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from backbones.tiny.scenes import HELD_OUT
from backbones.tiny.sentences import DESCRIBE, MARGIN, PAIRS, QUESTIONS, TAUGHT, Pair, Thing, ask, caption
from backbones.tiny.speech import SHIPPED, Speaker
from backbones.tiny.word_lessons import Lessons
from perception.captioner.examine import rows
from robot_io.files import write_text

AT_ONCE = 50
SEED = 9
Counts = dict[str, tuple[int, int]]
"""`(hits, of how many)` by metric."""


def parse(said: str) -> tuple[list[str], str | None]:
    """The names on the table from left to right, and what is held, of a caption."""
    table, _, hand = said.partition("; the gripper ")
    names = [_bare(part) for part in table.split(" left of ") if part and part != "nothing"]
    return names, _bare(hand.removeprefix("holds ")) if hand.startswith("holds ") else None


def judge_captions(said: Sequence[str], truths: Sequence[Sequence[Thing]], only: Collection[Pair] | None = None) -> Counts:
    """See the module's head. `only`: pairs that count as named or invented."""
    hits = Counter(dict.fromkeys(("exact", "named", "invented", "order", "hand"), 0))
    of = hits.copy()
    wanted = None if only is None else {" ".join(pair) for pair in only}
    for text, there in zip(said, truths, strict=True):
        names, held = parse(text)
        told = Counter(name for name in [*names, *([held] if held else [])] if wanted is None or name in wanted)
        true = Counter(thing.name for thing in there if wanted is None or thing.name in wanted)
        table = [thing for thing in there if not thing.held and names.count(thing.name) == 1]
        apart = [pair for pair in combinations(table, 2) if abs(pair[0].place[1] - pair[1].place[1]) >= MARGIN]
        found = {
            "exact": (text == caption(there), 1),
            "named": ((told & true).total(), true.total()),
            "invented": ((told - true).total(), told.total()),
            "order": (sum(names.index(left.name) < names.index(right.name) for left, right in apart), len(apart)),
            "hand": (held == next((thing.name for thing in there if thing.held), None), 1),
        }
        hits.update({metric: int(hit) for metric, (hit, _) in found.items()})
        of.update({metric: count for metric, (_, count) in found.items()})
    return {metric: (hits[metric], of[metric]) for metric in hits}


def judge_answers(said: Sequence[str], truths: Sequence[str], elsewhere: Sequence[str]) -> Counts:
    """Right answers, those of always saying the commonest, and those from another scene's pictures."""
    n = len(truths)
    right, guessed = (sum(one == truth for one, truth in zip(answers, truths, strict=True)) for answers in (said, elsewhere))
    return {"right": (right, n), "majority": (max(Counter(truths).values(), default=0), n), "elsewhere": (guessed, n)}


def captions(speaker: Speaker, lessons: Lessons, chosen: np.ndarray) -> list[str]:
    return [said for part in _parts(chosen) for (said,) in speaker.write(lessons.take(part), [[DESCRIBE]] * len(part))]


def answers(speaker: Speaker, lessons: Lessons, kind: str, chosen: np.ndarray, pairs: Collection[Pair]) -> tuple[list[str], list[str], list[str]]:
    """At most one question of `kind` about each scene: what is said, what is true, what is said from the next scene's pictures."""
    rng, asked = np.random.default_rng((SEED, list(QUESTIONS).index(kind))), {}
    for i in chosen:
        if pair := ask(lessons.there[i], rng, kind, pairs):
            asked[int(i)] = pair
    scenes = np.array(list(asked), int)

    def say(shown: np.ndarray) -> list[str]:
        questions = [asked[int(i)][0] for i in scenes]
        return [said for part in _parts(np.arange(len(scenes)))
                for (said,) in speaker.write(lessons.take(shown[part]), [[questions[i]] for i in part])]

    return say(scenes), [answer for _, answer in asked.values()], say(np.roll(scenes, 1))


def score(speaker: Speaker, lessons: Lessons, at_most: int) -> dict[str, float]:
    """For the log of a training: shares over the first scenes."""
    chosen = np.arange(min(at_most, len(lessons)))
    counts = judge_captions(captions(speaker, lessons, chosen), [lessons.there[i] for i in chosen])
    for kind in QUESTIONS:
        counts[f"{kind}?"] = judge_answers(*answers(speaker, lessons, kind, chosen, PAIRS))["right"]
    return {name: round(hit / max(1, of), 3) for name, (hit, of) in counts.items()}


def exam(speaker: Speaker, lessons: Lessons, name: str, chosen: np.ndarray, pairs: Collection[Pair], digest: str, command: str) -> list[dict]:
    """All rows about the chosen scenes; questions and things named are about `pairs`."""
    truths = [lessons.there[i] for i in chosen]
    counts = judge_captions(captions(speaker, lessons, chosen), truths, None if set(pairs) >= set(TAUGHT) else pairs)
    table = rows({"scenes": name, "asked": "caption"}, counts, digest, command)
    for kind in QUESTIONS:
        said = answers(speaker, lessons, kind, chosen, pairs)
        table += rows({"scenes": name, "asked": kind}, judge_answers(*said), digest, command)
        if kind == "hand" and (holding := [each for each in zip(*said, strict=True) if each[1] != "nothing"]):
            table += rows({"scenes": name, "asked": "hand that holds something"}, judge_answers(*zip(*holding, strict=True)), digest, command)
    return table


def _parts(chosen: np.ndarray) -> list[np.ndarray]:
    return [chosen[start:start + AT_ONCE] for start in range(0, len(chosen), AT_ONCE)]


def _bare(name: str) -> str:
    """Without its article."""
    return name.partition(" ")[2] if name.split(" ")[0] in ("a", "an") else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=SHIPPED / "tabletop.safetensors")
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results/tiny_words.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    speaker = Speaker.load(options.weights)
    digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()[:12]
    seen, held_out = (Lessons(folder, speaker) for folder in (options.scenes, options.held_out))
    few = np.array([i for i, there in enumerate(seen.there) if len(there) <= 2])
    table = []
    for name, lessons, chosen, pairs in (
        ("1–7 objects", seen, np.arange(len(seen)), TAUGHT),
        ("1–2 objects", seen, few, TAUGHT),
        ("one of a pair never seen", held_out, np.arange(len(held_out)), PAIRS),
        ("about that very pair", held_out, np.arange(len(held_out)), HELD_OUT),
    ):
        table += exam(speaker, lessons, name, chosen, pairs, digest, "python -m backbones.tiny.examine_words --scenes SEEN --held-out HELD_OUT")
    write_text(options.out, "[\n" + ",\n".join(json.dumps(row) for row in table) + "\n]\n")
    for row in table:
        print(*row["cell"].values(), row["metric"], f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}] n={row['n']}")


if __name__ == "__main__":
    main()
