"""What captions get right: `python -m perception.captioner.examine tabletop DIR...` or `household`, into `docs/results/captions.json`.

A caption is read as a set of clauses. Of the things that are there a share is named (recall), of the things named a share is there (precision);
a thing counts under its whole name, colour and shape, and `right_place` is the share of rightly named ones that are also said to be in the
right place. For the household things are named with the furniture that they lie on, so place and name are judged together.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor

from perception.captioner.captioner import EmbeddedCaptioner
from perception.captioner.model import Captioner
from perception.captioner.words import Words

THING = re.compile(r"^a (?P<name>\w+ \w+) (?P<place>.+)$")
AT_ONCE = 32


def facts(caption: str) -> Counter[tuple[str, str]]:
    """`(name, place)` of everything said. Of a household: `(apple, counter)`, `(fridge, open)`, `(room, kitchen)`, `(hand, cup)`, …"""
    said: Counter[tuple[str, str]] = Counter()
    for number, clause in enumerate(caption.split("; ")):
        if match := THING.match(clause):
            said[match["name"], match["place"]] += 1
        elif ":" in clause:
            head, _, things = clause.partition(":")
            said.update((thing.strip(), head.split()[0]) for thing in things.split(","))
            said[head.split()[0], " ".join(head.split()[1:])] += 1
        elif clause and clause != "nothing":
            words = clause.split()
            said[("room", words[0]) if number == 0 and len(words) == 1 else (words[0], " ".join(words[1:]))] += 1
    return said


def tally(captions: list[str], truths: list[str], only: set[str] | None = None) -> dict[str, tuple[int, int]]:
    """`(right, all)` of every measure. `only`: names that count."""
    recall, precision, placed, exact = [0, 0], [0, 0], [0, 0], [0, 0]
    for caption, truth in zip(captions, truths, strict=True):
        said, there = ({k: n for k, n in facts(text).items() if only is None or k[0] in only} for text in (caption, truth))
        names_said, names_there = (_names(part) for part in (said, there))
        hits = (names_said & names_there).total()
        recall = [recall[0] + hits, recall[1] + names_there.total()]
        precision = [precision[0] + hits, precision[1] + names_said.total()]
        placed = [placed[0] + (Counter(said) & Counter(there)).total(), placed[1] + hits]
        exact = [exact[0] + (caption == truth), exact[1] + 1]
    return {"recall": tuple(recall), "precision": tuple(precision), "right_place": tuple(placed), "exact": tuple(exact)}


def _names(said: dict[tuple[str, str], int]) -> Counter[str]:
    names: Counter[str] = Counter()
    for (name, _), count in said.items():
        names[name] += count
    return names


def write(model: Captioner, words: Words, images: Tensor) -> list[str]:
    return [words.decode(said) for start in range(0, len(images), AT_ONCE) for said in model.write(images[start:start + AT_ONCE]).tolist()]


def score(model: Captioner, words: Words, images: Tensor, truths: list[str]) -> dict[str, float]:
    """Every measure as a share."""
    return {name: round(right / max(1, all_), 3) for name, (right, all_) in tally(write(model, words, images), truths).items()}


def rows(cell: dict[str, str], counts: dict[str, tuple[int, int]], recipe: str, command: str) -> list[dict]:
    """Rows for `docs/results`, in per cent with Wilson intervals."""
    made = []
    for metric, (right, all_) in counts.items():
        interval = binomtest(right, all_).proportion_ci(method="wilson") if all_ else None
        low, high = (100 * interval.low, 100 * interval.high) if interval else (0, 100)
        made.append({"cell": cell, "metric": f"{metric}_percent", "mean": 100 * right / max(1, all_), "low": low, "high": high, "n": all_,
                     "seeds": [], "recipe": recipe, "command": command})
    return made


def main() -> None:
    import hashlib
    import json

    from perception.captioner.lessons import Household, Tabletop
    from perception.captioner.storage import shipped
    from robot_io.household.catalogue import FURNITURE, THINGS, TRAINING, UNSEEN

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="*", help="rendered tables; the household draws its own")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/results/captions.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    command, table = "python -m perception.captioner.examine SCENES…", []
    exams = {f"tabletop: {folder.name.replace('_', ' ')}": ("tabletop", Tabletop([folder]), None) for folder in options.scenes}
    for layouts, which in (("layouts of training", TRAINING), ("unseen layouts", UNSEEN)):
        for noun, names in (("furniture", FURNITURE), ("things", THINGS)):
            exams[f"household, {noun}: {layouts}"] = ("household", Household(which, 20_000), set(names))
    for name, (weights, lessons, only) in exams.items():
        captioner = EmbeddedCaptioner(weights=weights)
        digest = hashlib.sha256(shipped(weights).read_bytes()).hexdigest()[:12]
        images, truths = lessons.exam(options.pictures)
        table += rows({"pictures": name}, tally(write(captioner.model, captioner.words, images), truths, only), digest, command)
    options.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in table) + "\n]\n")
    for row in table:
        print(row["cell"]["pictures"], row["metric"], f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}] n={row['n']}")


if __name__ == "__main__":
    main()
