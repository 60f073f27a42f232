"""Pixel sources: a feature set that stands in for footage, and what it holds of the videos."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...extractors.clips import ClipAssembler, ClipRule, Span
from ...extractors.errors import ExtractorError
from ...extractors.footage.video import ProbeRow
from ...extractors.weights.slots import NETWORK, identities_in
from ..registry import EXTRACTORS
from ..store.errors import StoreError
from ..store.feature_store import FeatureStore
from ..store.holdings import Holdings, ending_of


class MissingSource(StoreError):
    """The feature set that an extractor reads pixels from lacks frames of a video."""


@dataclass(frozen=True)
class PixelSource:
    """A feature set that keeps a picture of every frame: row i is frame i.

    Attributes:
        recipe: of the feature set.
    """

    recipe: dict[str, Any]

    @classmethod
    def of(cls, store: FeatureStore) -> PixelSource:
        """The source that a feature set is.

        Raises:
            ExtractorError: it keeps no pixels, or not those of every frame.
        """
        recipe, what = store.recipe, f"{store.name} cannot be read in place of footage"
        kind = recipe["extractor"]
        kept = EXTRACTORS[kind].pixel_array if kind in EXTRACTORS else None
        if kept is None:
            keepers = ", ".join(n for n, k in EXTRACTORS.usable() if k.pixel_array is not None)
            raise ExtractorError(
                f"{what}: {kind} keeps no pixels. Extractors that keep pixels: {keepers}"
            )
        clips = recipe["clips"]
        if (clips["length"], clips["stride"]) != (1, 1):
            raise ExtractorError(
                f"{what}: it has a row for every clip of {clips['length']} frames at stride "
                f"{clips['stride']}. A source needs every frame: extract {kind} with stride 1"
            )
        if recipe.get("on_corrupt") == "skip":
            raise ExtractorError(
                f"{what}: it lacks the frames that --on-corrupt skip left out. Extract {kind} with "
                "--on-corrupt keep, and give --on-corrupt skip to the extractor that reads it"
            )
        return cls(recipe)

    @property
    def array(self) -> dict[str, Any]:
        """The description of the pictures in the recipe."""
        name = EXTRACTORS[self.recipe["extractor"]].pixel_array
        return next(spec for spec in self.recipe["arrays"] if spec["name"] == name)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        height, width, _ = self.array["shape"]
        return height, width

    def store(self, root: Path) -> FeatureStore:
        """The feature set under a root; nothing is made on disk."""
        return FeatureStore(root, self.recipe)

    def missing(self, content_id: str, at: int, root: Path) -> MissingSource:
        """The error where frames are missing from `at` on."""
        return MissingSource(
            f"{self.store(root).name} lacks the frames of {content_id} from {at} on. First type: "
            f"{command_of(self.recipe)}"
        )


def command_of(recipe: Mapping[str, Any]) -> str:
    """The command that makes a feature set; MANIFEST, N and FILE are for the user to fill in."""
    kind = EXTRACTORS[recipe["extractor"]]
    words = ["vadpipe", "extract", "MANIFEST", "-e", recipe["extractor"]]
    try:
        usual = kind.Config().model_dump(mode="json")
    except ValidationError:  # a setting without a default: all are named
        usual = {}
    changed = {k: v for k, v in recipe["config"].items() if usual.get(k, ...) != v}
    for name, value in changed.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    if "perturb" in recipe:
        table = ", ".join(f"{k} = {json.dumps(v)}" for k, v in recipe["perturb"].items())
        words += ["--set", f"perturb={{{table}}}"]
    for slot, identity in identities_in(recipe["weights"]).items():
        spec = identity if identity.startswith("random:") else "FILE"
        words += ["--weights", spec if slot == NETWORK else f"{slot}={spec}"]
    if recipe["precision"] is not None:
        words += ["--precision", recipe["precision"]]
    if "source" in recipe:
        words += ["--from", FeatureStore(Path(), recipe["source"]).name]
    return shlex.join([*words, *(["--max-bytes", "N"] if kind.keeps_pixels else [])])


def source_recipes(recipe: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The recipes of the source of a recipe, of the source of that, and so on."""
    while (recipe := recipe.get("source", {})) != {}:
        yield recipe


class Upstream:
    """What a pixel source holds of the videos of a run.

    Args:
        source:
            The feature set.
        roots:
            Where its shards may lie; the first that has all of a video is read.
        contents:
            Content ids of the videos.
        rules:
            How the extractors cut clips.
    """

    def __init__(
        self,
        source: PixelSource,
        roots: Iterable[Path],
        contents: Sequence[str],
        rules: Sequence[ClipRule],
    ) -> None:
        self._source, self._rules = source, rules
        self._roots = list(dict.fromkeys(roots))
        self._held = [Holdings(source.store(root), contents) for root in self._roots]

    def _place(self, content_id: str) -> int:
        """Which root to read a video from."""
        whole = [held.whole(content_id) for held in self._held]
        return whole.index(True) if any(whole) else 0

    def root(self, content_id: str) -> Path:
        """The root that a video is read from."""
        return self._roots[self._place(content_id)]

    def row(self, row: ProbeRow) -> ProbeRow:
        """The video as the source holds it: pictures of one size, as many as the decoder returned.

        Where the source is not whole, the length is that of the probe. No seeks are needed.
        """
        held = self._held[self._place(row.content_id)]
        n_frames, flags = row.n_frames, set(row.flags)
        if held.whole(row.content_id):
            n_frames, noticed = ending_of(held.store, row.content_id)
            flags |= noticed
        height, width = self._source.size
        return replace(
            row,
            n_frames=n_frames,
            height=height,
            width=width,
            key_frames=None,
            flags=tuple(sorted(flags - {"sequential_only"})),
        )

    def agrees(self, row: ProbeRow) -> bool:
        """Whether what is there of a video was made of the file that was probed."""
        held = self._held[self._place(row.content_id)]
        derived = "source" in self._source.recipe  # its length is that of its own source
        return held.agrees(row, *(() if derived else (row.n_frames,)))

    def ready(self, content_id: str, spans: Sequence[Span]) -> set[int]:
        """Which spans can be computed: the frames of their clips, with context, are there."""
        held = self._held[self._place(content_id)]
        if held.whole(content_id):
            return set(range(len(spans)))
        needs = [self._frames_of(span) for span in spans]
        # The last span of a video that is not whole has no known end.
        lacking = {*held.missing(content_id, needs), *(i for i, s in enumerate(spans) if s.last)}
        return set(range(len(spans))) - lacking

    def _frames_of(self, span: Span) -> Span:
        """The frames that a span reads."""
        first = [ClipAssembler(rule, span).first_frame for rule in self._rules]
        stop = [
            (span.frame_stop - 1) // rule.stride * rule.stride + rule.length + rule.after
            for rule in self._rules
        ]
        return replace(
            span,
            frame_start=min([span.frame_start, *first]),
            frame_stop=max([span.frame_stop, *stop]),
        )

    def missing(self, content_id: str) -> MissingSource:
        """The error of a video that is not whole."""
        place = self._place(content_id)
        return self._source.missing(
            content_id, self._held[place].reach(content_id), self._roots[place]
        )
