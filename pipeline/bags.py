"""Store + manifest -> Bags: what a detector sees of each video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data_manifests.record import VideoRecord
from ..detectors.base import ArrayLike, Bag, DetectorError, Track
from ..extractors.footage.video import ProbeRow
from .store.errors import StoreError
from .store.feature_sets import list_stores
from .store.feature_store import FeatureStore, VideoFeatures
from .store.holdings import current_videos
from .store.recipes import is_perturbed
from .store.video_rows import StoreRows


@dataclass(frozen=True)
class RowSlice:
    """Rows [start, stop) of an array that stays on disk."""

    array: ArrayLike
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, ...)."""
        return (self.stop - self.start, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """As stored."""
        return self.array.dtype

    def __getitem__(self, rows: slice) -> NDArray[np.generic]:
        low, high, step = rows.indices(self.stop - self.start)
        if step != 1:
            raise IndexError("features are sliced with step 1")
        return self.array[self.start + low : self.start + high]


class StoreBags:
    """The bags of some records, opened one at a time (see `detectors.base.BagSource`).

    Args:
        records:
            The videos, in order.
        rows:
            video_id -> probe row.
        stores:
            The feature sets; every array with a role becomes a track.
        labels:
            False hides the labels, for detectors that may not see them.
        twins:
            Name of a track -> the role of one array, and the feature set that holds it (see
            `Detector.twins`).
    """

    def __init__(
        self,
        records: Sequence[VideoRecord],
        rows: Mapping[str, ProbeRow],
        stores: Sequence[FeatureStore],
        *,
        labels: bool,
        twins: Mapping[str, tuple[str, FeatureStore]] | None = None,
    ) -> None:
        self._records = list(records)
        self._rows = rows
        self._stores = list(stores)
        self._labels = labels
        self._twins = dict(twins or {})

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Bag]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Bag:
        """Open the i-th bag.

        Raises:
            StoreError: its features are not in a store, or not whole.
            DetectorError: the record's part of the video holds no clip.
        """
        record = self._records[i]
        row = self._rows[record.video_id]
        tracks: dict[str, Track] = {}
        n_frames, fps = row.n_frames, row.fps
        for store in self._stores:
            features = store.read(row.content_id)
            n_frames, fps = features.n_frames, features.fps
            tracks |= self._tracks(record, store, features)
        for name, (role, store) in self._twins.items():
            tracks[name] = self._tracks(record, store, store.read(row.content_id))[role]
        label = record.label if self._labels else None
        return Bag(record.video_id, label, n_frames, fps, tracks, record.scene)

    def _tracks(
        self, record: VideoRecord, store: FeatureStore, features: VideoFeatures
    ) -> dict[str, Track]:
        """The arrays with a role, cut to the part of the video that the record names."""
        part = record.frame_range(features.n_frames)
        inside = {axis: times.inside(part) for axis, times in features.times.items()}
        tracks: dict[str, Track] = {}
        for spec in store.array_specs():
            axis = spec["dims"][0]
            first, stop = inside[axis]
            if first == stop and not spec.get("ragged", False):
                raise DetectorError(
                    f"{record.video_id}: no whole clip lies in its part {record.part} of "
                    f"{features.n_frames} frames"
                )
            if spec["role"] is not None:
                tracks[spec["role"]] = Track(
                    RowSlice(features.arrays[spec["name"]], first, stop),
                    features.times[axis].frame_start[first:stop],
                    features.times[axis].frame_stop[first:stop],
                    None if spec["grid"] is None else (spec["grid"][0], spec["grid"][1]),
                )
        return tracks

    def subset(self, indices: Sequence[int]) -> StoreBags:
        """The bags of these indices only."""
        records = [self._records[i] for i in indices]
        return StoreBags(records, self._rows, self._stores, labels=self._labels, twins=self._twins)

    def video_rows(self, role: str) -> StoreRows:
        """The rows of exactly this role in all videos; no bag is opened.

        Raises:
            StoreError: features of some videos are not there or not whole.
            DetectorError: no feature set has this role, or a record's part has no row.
        """
        specs = [(store, spec) for store in self._stores for spec in store.array_specs()]
        wanted = role
        if role in self._twins:
            wanted, twin = self._twins[role]
            specs = [(twin, spec) for spec in twin.array_specs()]
        for store, spec in reversed(specs):  # as in a bag, the last of one role counts
            if spec["role"] == wanted:
                contents = [self._rows[record.video_id].content_id for record in self._records]
                return StoreRows(store, spec, self._records, contents, labels=self._labels)
        roles = sorted({str(spec["role"]) for _, spec in specs if spec["role"] is not None})
        raise DetectorError(f"no {role!r} features; there are: {', '.join(roles) or 'none'}")


def find_stores(
    cache: Path,
    needs: Sequence[str],
    rows: Mapping[str, ProbeRow],
    named: Mapping[str, str] | None = None,
) -> dict[str, FeatureStore]:
    """The feature set of each role that a detector needs.

    Args:
        cache:
            Root of the cache.
        needs:
            Roles.
        rows:
            The videos that have to be there.
        named:
            role -> the store's name, or as much of its beginning as makes it unique, or the name
            that it was imported under.

    Returns:
        role -> store. The grids of a role ("patch/2x3", "patch/3x5") that were imported under one
        name are several feature sets, and are listed one by one.

    Raises:
        StoreError: no store, or several: the message lists them.
    """
    found: dict[str, FeatureStore] = {}
    stores = list_stores(cache)
    for role in needs:
        candidates = _candidates(stores, role, rows, (named or {}).get(role))
        plain = [s for s in candidates if not is_perturbed(s.recipe)]
        if role not in (named or {}):
            candidates = plain or candidates
        family = _one_import(candidates)
        found |= family or {role: _only(candidates, role, f"{role!r} features", cache)}
    return found


def find_twins(
    cache: Path,
    twins: Mapping[str, str],
    rows: Mapping[str, ProbeRow],
    named: Mapping[str, str] | None = None,
) -> dict[str, FeatureStore]:
    """The feature sets of perturbed footage that a detector is trained on.

    Args:
        cache:
            Root of the cache.
        twins:
            Name in a bag -> role.
        rows:
            The videos that have to be there.
        named:
            Name in a bag -> the store, as in `find_stores`. A set that is named need not be of
            perturbed footage.

    Raises:
        StoreError: no store, or several: the message lists them.
    """
    found: dict[str, FeatureStore] = {}
    stores = list_stores(cache)
    for name, role in twins.items():
        candidates = _candidates(stores, role, rows, (named or {}).get(name))
        if name not in (named or {}):
            candidates = [s for s in candidates if is_perturbed(s.recipe)]
        found[name] = _only(candidates, name, f"{role!r} features of perturbed footage", cache)
    return found


def _candidates(
    stores: Sequence[FeatureStore], role: str, rows: Mapping[str, ProbeRow], wanted: str | None
) -> list[FeatureStore]:
    """The feature sets with a role: those that are named so, or else whole ones if there are."""
    found = [s for s in stores if has_role((spec["role"] for spec in s.array_specs()), role)]
    if wanted is not None:
        return [s for s in found if s.name.startswith(wanted) or import_name(s) == wanted]
    # prefer sets that are whole to those of a run that never finished
    contents = {row.content_id for row in rows.values()}
    whole = [s for s in found if current_videos(s, rows.values()) == contents]
    return whole or found


def _only(candidates: Sequence[FeatureStore], name: str, what: str, cache: Path) -> FeatureStore:
    """The only candidate.

    Raises:
        StoreError: there is none, or there are several.
    """
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise StoreError(f"no feature set in {cache} has {what}: run vadpipe extract first")
    listed = "\n".join(f"  {s.name}  {_summary(s)}" for s in candidates)
    raise StoreError(
        f"several feature sets have {what}:\n{listed}\nchoose one with --features {name}=NAME"
    )


def missing_videos(
    stores: Mapping[str, FeatureStore], rows: Mapping[str, ProbeRow]
) -> dict[str, list[str]]:
    """role -> ids of the videos whose features are not whole, or were made of other files."""
    gaps: dict[str, list[str]] = {}
    for role, store in stores.items():
        current = current_videos(store, rows.values())
        videos = [v for v, row in rows.items() if row.content_id not in current]
        if videos:
            gaps[role] = videos
    return gaps


def has_role(roles: Iterable[str | None], role: str) -> bool:
    """Whether arrays with these roles have a role, or a variant of it ("patch/2x3")."""
    return any(own == role or str(own).startswith(f"{role}/") for own in roles)


def import_name(store: FeatureStore) -> str | None:
    """The name that a feature set was imported under."""
    config = store.recipe.get("config", {})
    return config.get("name") if store.recipe["extractor"] == "imported" else None


def _one_import(stores: Sequence[FeatureStore]) -> dict[str, FeatureStore] | None:
    """The stores by role, if they are several of one import with a role each."""
    roles = {str(spec["role"]): store for store in stores for spec in store.array_specs()}
    names = {import_name(store) for store in stores}
    if len(stores) < 2 or len(roles) < len(stores) or len(names) > 1 or None in names:
        return None
    return dict(sorted(roles.items()))


def _summary(store: FeatureStore) -> str:
    recipe = store.recipe
    settings = ", ".join(f"{k}={v}" for k, v in recipe.get("config", {}).items())
    return f"({settings}, precision={recipe.get('precision')})"
