"""Object-centric grounding: instruction → phrases → the region of each thing in every view, carried over time.

After OBEYED-VLA (arXiv 2512.22519, sec. 3): a policy that is shown only the things that the instruction is about, found by explicit
perception, keeps working among things it has never seen. This front-end finds them and fills `Percept.regions`; it leaves images
alone: `masking` and `geometric` after it decide what the policy sees of the rest.

    phrases ──detector──▶ candidates ──segmenter──▶ masks ──selector──▶ one per phrase, base view first ──tracker──▶ next looks

Further views look for what the base view (the first camera) found: selectors get a crop of it, and where depth and poses are known,
candidates elsewhere in space are dropped. A view that does not recognise what another one found takes the thing that stands in the
same place, whatever it looks like from there. In an episode (`Batch.memory`) it is decided at the first look, or the first few, whether
the target is there; if not, the robot is told to hold still (`Percept.abstain`). Later only strong evidence changes that: fingers
hide what they grasp. In training every frame is grounded afresh and nothing abstains.

Shapes: B observations, V views, R roles, N candidates, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import Field

from perception.grounding import DETECTORS, SEGMENTERS, SELECTORS, TRACKERS
from perception.grounding.candidates import boxes_of, crop, overlaps
from perception.grounding.episode import Episode, Found, settle
from perception.grounding.nested import component
from perception.grounding.positions import Geometry
from perception.grounding.score import surest
from perception.percept import Batch, FrontEnd, Percept
from perception.phrases import Goal, parse
from perception.regions import CONTAINER, ROBOT, TARGET, Regions
from perception.stages import Detections, Picture
from robot_io import UserError
from robot_io.registry import ComponentConfig

MEMORY = "object_centric"


class ObjectCentric(FrontEnd):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["object_centric"] = "object_centric"
        detector: component(DETECTORS) = Field({"kind": "embedded"}, validate_default=True, description="phrases to boxes or masks")
        segmenter: component(SEGMENTERS) | None = Field(None, description="boxes to masks; not needed if the detector gives masks")
        selector: component(SELECTORS) = Field({"kind": "relation"}, validate_default=True, description="which candidate is meant")
        tracker: component(TRACKERS) = Field({"kind": "none"}, validate_default=True, description="carries masks between groundings")
        ground_every: int = Field(1, ge=1, description="looks from one grounding to the next")
        threshold: float = Field(0.3, ge=0, lt=1, description="a detection must score more")
        strong: float = Field(0.6, ge=0, le=1, description="least score that overrules what an episode has settled on")
        abstain: bool = Field(True, description="hold still where the target is absent")
        first_looks: int = Field(1, ge=1, description="groundings that may find the target before it counts as absent")
        keep_robot: bool = Field(True, description="also find the robot itself")
        robot_phrase: str = Field("robot", description="what the detector knows the robot as")
        generic_phrase: str = Field("object", description="what the detector knows any thing as; empty: it knows no such word")
        agree_within: float = Field(0.05, gt=0, description="metres between the places two views see one thing at, at most")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        gives = {card.kind: card.provides for card in DETECTORS.cards()}.get(config.detector.kind, ("masks",))
        if config.segmenter is None and "masks" not in gives:
            raise _no_masks(config.detector.kind)
        self.detector = DETECTORS.load(config.detector.kind)(config.detector)
        self.segmenter = config.segmenter and SEGMENTERS.load(config.segmenter.kind)(config.segmenter)
        self.selector = SELECTORS.load(config.selector.kind)(config.selector)
        self.tracker = TRACKERS.load(config.tracker.kind)(config.tracker)
        self.roles = (TARGET, CONTAINER, ROBOT) if config.keep_robot else (TARGET, CONTAINER)
        self.oracle = bool(getattr(self.detector, "oracle", False))
        self.abstains = config.abstain

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        pictures = [rgb.cpu().numpy() for rgb in observations.rgb.values()]  # V of [B, H, W, 3]
        goals = [parse(instruction) for instruction in observations.instructions]
        episodes = self._episodes(observations)
        due = [b for b, episode in enumerate(episodes) if episode is None or self._due(episode)]
        found = self._ground(observations, percept, pictures, goals, due)
        results = []
        for b, episode in enumerate(episodes):
            seen = [rgb[b] for rgb in pictures]
            results.append(found[b] if episode is None else settle(episode, seen, found.get(b), self.tracker, self.config))
        return self._report(observations, percept, goals, episodes, results)

    # Grounding -----------------------------------------------------------------------------------------------

    def _ground(self, batch: Batch, percept: Percept, pictures: list[np.ndarray], goals: list[Goal], due: list[int]) -> dict[int, Found]:
        """Find the things of every observation in `due` in all its views: one call of the detector for all of them."""
        views = range(len(pictures))
        asked = {b: self._phrases(goals[b]) for b in due}
        flat = [(b, v) for b in due for v in views]
        if not flat:
            return {}
        candidates = dict(zip(flat, self._detect(batch, [pictures[v][b] for b, v in flat], [asked[b] for b, _ in flat], flat), strict=True))
        geometry = Geometry(batch, percept)
        return {b: self._choose(b, [pictures[v][b] for v in views], [candidates[b, v] for v in views], asked[b], goals[b],
                                batch.instructions[b], geometry) for b in due}

    @property
    def _not_named(self) -> list[str]:
        """What the detector is asked for whatever the instruction says."""
        return [self.config.generic_phrase, self.config.robot_phrase if self.config.keep_robot else ""]

    def _phrases(self, goal: Goal) -> list[str]:
        """What the detector is asked for, each once. What the instruction names comes first: it alone is put to the selector."""
        landmark = goal.relation.landmark if goal.relation else ""
        names = [goal.target, goal.container, *goal.excluded, landmark, *self._not_named]
        return list(dict.fromkeys(name for name in names if name))

    def _detect(self, batch: Batch, pictures: Sequence[Picture], phrases: list[list[str]], where: list[tuple[int, int]]) -> list[Detections]:
        """Candidates above the threshold, with masks."""
        if self.oracle:
            names = batch.cameras
            truth = [batch.labels.get(names[v], [None] * len(batch))[b] for b, v in where]
            found = self.detector.detect(pictures, phrases, truth)
        else:
            found = self.detector.detect(pictures, phrases)
        found = [detections.keep(detections.scores > self.config.threshold) for detections in found]
        if self.segmenter is not None:
            found = self.segmenter.segment(pictures, found)
        if any(detections.masks is None and len(detections) for detections in found):
            raise _no_masks(self.config.detector.kind)
        return [detections.keep(detections.masks.any((1, 2))) if len(detections) else detections for detections in found]

    def _choose(self, b: int, pictures: list[Picture], candidates: list[Detections], phrases: list[str], goal: Goal,
                instruction: str, geometry: Geometry) -> Found:
        """One candidate or none for each role, first in the base view, then in the others with what that one found."""
        size = pictures[0].shape[:2]
        found = Found.nothing(len(pictures), len(self.roles), size, candidates)
        wanted = [phrases.index(name) if name else None for name in self._of_roles(goal)]
        landmark = goal.relation.landmark if goal.relation else ""
        named = {goal.target, goal.container, *goal.excluded, landmark}
        put = sum(phrase in named for phrase in phrases)
        references: list[Picture | None] = [None] * put
        places: dict[int, np.ndarray] = {}
        located = []
        for v, (picture, mine) in enumerate(zip(pictures, candidates, strict=True)):
            mine = _without_excluded(mine, [phrases.index(name) for name in goal.excluded])
            mine = Detections(mine.boxes, mine.scores, mine.phrase, mine.masks, geometry.positions(b, v, mine.masks))
            located.append(mine)
            if v and goal.relation and references[0] is None:  # left is only left in the base view
                mine = mine.keep(mine.phrase != 0)
            mine = self._agreeing(mine, places)
            chosen = self.selector.select(picture, mine.keep(mine.phrase < put), phrases[:put], instruction, references) if len(mine) else []
            index = np.flatnonzero(mine.phrase < put)
            for r, phrase in enumerate(wanted):
                if phrase is None or not len(mine):
                    continue
                pick = surest(mine, phrase) if phrase >= put else None if chosen[phrase] is None else int(index[chosen[phrase]])
                if pick is not None:
                    found.masks[v, r], found.scores[v, r] = mine.masks[pick], mine.scores[pick]
                    if v == 0 and phrase < put:
                        references[phrase] = crop(picture, mine.masks[pick])
                    if phrase < put and mine.positions is not None and np.isfinite(mine.positions[pick]).all():
                        places.setdefault(phrase, mine.positions[pick])
        if self.config.generic_phrase:
            anything = phrases.index(self.config.generic_phrase)
            self._complete(found, [mine.keep(mine.phrase == anything) for mine in located], wanted, places)
        return found

    def _complete(self, found: Found, located: list[Detections], wanted: list[int | None], places: dict[int, np.ndarray]) -> None:
        """Where one view found a thing and another did not, give the other one the thing that stands nearest to that place.

        Args:
            located: per view what answers to the generic phrase; neither the robot nor a container does.
        """
        for v, mine in enumerate(located):
            if mine.positions is None or not len(mine):
                continue
            for r, phrase in enumerate(wanted):
                if phrase not in places or found.masks[v, r].any():
                    continue
                distance = np.nan_to_num(np.linalg.norm(mine.positions - places[phrase], axis=1), nan=np.inf)
                nearest = int(distance.argmin())
                if distance[nearest] <= self.config.agree_within:
                    found.masks[v, r], found.scores[v, r] = mine.masks[nearest], found.scores[:, r].max()

    def _agreeing(self, candidates: Detections, places: dict[int, np.ndarray]) -> Detections:
        """Without those that stand elsewhere than where the base view saw their phrase's thing."""
        if candidates.positions is None or not places:
            return candidates
        far = np.zeros(len(candidates), bool)
        for phrase, place in places.items():
            distance = np.linalg.norm(candidates.positions - place, axis=1)  # NaN, which is not far, where unknown
            far |= (candidates.phrase == phrase) & (distance > self.config.agree_within)
        return candidates.keep(~far)

    def _of_roles(self, goal: Goal) -> list[str]:
        names = {TARGET: goal.target, CONTAINER: goal.container, ROBOT: self.config.robot_phrase}
        return [names[role] for role in self.roles]

    # Over time -----------------------------------------------------------------------------------------------

    def _episodes(self, batch: Batch) -> list[Episode | None]:
        """What is known of each observation's episode; a new one where the instruction is another. None in training."""
        if batch.memory is None:
            return [None] * len(batch)
        episodes: list[Episode | None] = []
        for memory, instruction in zip(batch.memory, batch.instructions, strict=True):
            episode = memory.get(MEMORY)
            if episode is None or episode.instruction != instruction:
                episode = memory[MEMORY] = Episode(instruction)
            episodes.append(episode)
        return episodes

    def _due(self, episode: Episode) -> bool:
        return episode.looks % self.config.ground_every == 0 or episode.looks < self.config.first_looks

    def _report(self, batch: Batch, percept: Percept, goals: list[Goal], episodes: list[Episode | None], results: list[Found]) -> Percept:
        """The percept with what was found."""
        device = batch.state.device
        masks = np.stack([found.masks for found in results])
        scores = torch.from_numpy(np.stack([found.scores for found in results])).to(device)
        b, v, r, height, width = masks.shape
        boxes = torch.from_numpy(boxes_of(masks.reshape(-1, height, width)).reshape(b, v, r, 4)).to(device)
        regions = Regions(torch.from_numpy(masks).to(device), scores, self.roles, [tuple(self._of_roles(goal)) for goal in goals])
        evidence = {
            "boxes": boxes, "masks": regions.masks, "scores": scores, "candidates": [found.candidates for found in results],
            "phrases": [self._phrases(goal) for goal in goals],
            "detector": "oracle: an upper bound" if self.oracle else self.config.detector.kind,
        }
        abstain = percept.abstain
        if self.config.abstain and batch.memory is not None:
            still = torch.tensor([episode is not None and episode.absent for episode in episodes], device=device)
            abstain = still if abstain is None else abstain | still
        return percept.replace(regions=regions, abstain=abstain,
                               evidence=percept.evidence | {f"{MEMORY}/{name}": value for name, value in evidence.items()})


def _without_excluded(candidates: Detections, excluded: list[int]) -> Detections:
    """Without candidates that lie on a better one for a phrase that is excluded."""
    shunned = np.isin(candidates.phrase, excluded)
    if not shunned.any():
        return candidates
    same: Bool[np.ndarray, "n m"] = overlaps(candidates.masks, candidates.masks[shunned]) > 0.5
    better = candidates.scores[shunned][None] >= candidates.scores[:, None]
    return candidates.keep(~(same & better).any(1) | shunned)


def _no_masks(kind: str) -> UserError:
    return UserError(f"detector {kind}", "it gives boxes only", "masks", "add a segmenter, for example segmenter={kind: sam2}")
