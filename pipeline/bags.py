"""Store + manifest -> Bags: what a detector sees of each video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data_manifests.choices import choices, likely
from ..data_manifests.record import VideoRecord
from ..detectors.base import Bag, BagSource, Detector, DetectorError, Track
from ..extractors.footage.video import ProbeRow
from .store.errors import StoreError
from .store.failures import Failure, describe_failure
from .store.feature_sets import list_stores
from .store.feature_store import FeatureStore, VideoFeatures
from .store.holdings import current_videos
from .store.probe_table import Probed
from .store.recipes import is_perturbed, way_of
from .store.row_slice import RowSlice
from .store.shard import CURE
from .store.video_rows import StoreRows


class StoreBags:
    """The bags of some records, opened one at a time (see `detectors.base.BagSource`).

    Args:
        records:
            The videos, in order.
        rows:
            video_id -> probe row.
        stores:
            Role that a detector needs -> its feature set. Every array with a role becomes a track;
            where several sets have a role, it is that of the set which was chosen for this role.
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
        stores: Mapping[str, FeatureStore],
        *,
        labels: bool,
        twins: Mapping[str, tuple[str, FeatureStore]] | None = None,
    ) -> None:
        self._records = list(records)
        self._rows = rows
        self._stores = dict(stores)
        self._labels = labels
        self._twins = dict(twins or {})
        self._arrays = arrays_of(stores)
        for name, (role, store) in self._twins.items():
            specs = {spec["role"]: spec for spec in store.array_specs()}
            self._arrays[name] = StoredArray(store, specs[role])

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Bag]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Bag:
        """Open the i-th bag; raises what `opened` raises."""
        return self.opened(i)[0]

    def opened(self, i: int) -> tuple[Bag, dict[str, VideoFeatures]]:
        """Open the i-th bag.

        Returns:
            The bag, and what it was opened from: key of a feature set -> the features of the video.

        Raises:
            StoreError: its features are not in a store, or not whole.
            DetectorError: the record's part of the video holds no clip.
        """
        record = self._records[i]
        row = self._rows[record.video_id]
        n_frames, fps = row.n_frames, row.fps
        read: dict[str, VideoFeatures] = {}
        for store in (array.store for array in self._arrays.values()):
            if store.key not in read:
                read[store.key] = store.read(row.content_id)
        for store in self._stores.values():
            n_frames = read[store.key].n_frames
            if row.kind != "images":  # those state no rate: it is what the user says now
                fps = read[store.key].fps
        tracks = {
            name: _track(record, read[array.store.key], array.spec)
            for name, array in self._arrays.items()
        }
        label = record.label if self._labels else None
        return Bag(record.video_id, label, n_frames, fps, tracks, record.scene), read

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
        if role not in self._arrays:
            known = choices(sorted(self._arrays), role)
            raise DetectorError(f"no {role!r} features; there are: {known}")
        array = self._arrays[role]
        contents = [self._rows[record.video_id].content_id for record in self._records]
        spec = {**array.spec, "role": role}
        return StoreRows(array.store, spec, self._records, contents, labels=self._labels)


def _track(record: VideoRecord, features: VideoFeatures, spec: Mapping[str, Any]) -> Track:
    """An array, cut to the part of the video that the record names."""
    times = features.times[spec["dims"][0]]
    first, stop = times.inside(record.frame_range(features.n_frames))
    if first == stop and not spec.get("ragged", False):
        if record.part == (0.0, 1.0) and len(times.frame_start):
            raise StoreError(
                f"no row of {record.video_id} lies in its {features.n_frames} frames, so a shard "
                f"of {spec['name']!r} is damaged; {CURE}"
            )
        raise DetectorError(
            f"{record.video_id}: no whole clip lies in its part {record.part} of "
            f"{features.n_frames} frames"
        )
    return Track(
        RowSlice(features.arrays[spec["name"]], first, stop),
        times.frame_start[first:stop],
        times.frame_stop[first:stop],
        None if spec["grid"] is None else (spec["grid"][0], spec["grid"][1]),
    )


@dataclass(frozen=True)
class StoredArray:
    """An array of a feature set, with its description in the recipe."""

    store: FeatureStore
    spec: Mapping[str, Any]


def arrays_of(stores: Mapping[str, FeatureStore]) -> dict[str, StoredArray]:
    """Role -> its array in the feature sets that were chosen.

    A role that was asked for is that of the set which was chosen for it: for "patch/2x3" rather
    than for "patch". Of all other roles the first set counts, in the order of the names of what was
    asked for: it is the same in training and in scoring.
    """
    found: dict[str, StoredArray] = {}
    extras: dict[str, StoredArray] = {}
    for need, store in sorted(stores.items()):
        for spec in store.array_specs():
            role = spec["role"]
            if role is not None and has_role([role], need):
                found[role] = StoredArray(store, spec)
            elif role is not None and not any(has_role([role], other) for other in stores):
                extras.setdefault(role, StoredArray(store, spec))
    return found | extras


def check_chosen(detectors: Iterable[Detector[Any]], named: Iterable[str]) -> None:
    """Refuse a choice of features for roles that no detector asks for.

    Args:
        detectors:
            One, or the cells of a grid.
        named:
            Roles and names of twins that were chosen for.

    Raises:
        StoreError: it would be ignored.
    """
    known = dict.fromkeys(role for each in detectors for role in (*each.needs, *each.twins))
    if unknown := [role for role in named if role not in known]:
        raise StoreError(
            f"features of {', '.join(map(repr, unknown))} are not asked for; roles that can be "
            f"chosen: {choices(known, *unknown)}"
        )


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
        role -> store. Sets with exactly the role are preferred to those with a variant of it. The
        grids of a role ("patch/2x3", "patch/3x5") that were imported under one name are several
        feature sets, and are listed one by one.

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
        candidates = [s for s in candidates if role in _roles(s)]
        if name not in (named or {}):
            candidates = [s for s in candidates if is_perturbed(s.recipe)]
        found[name] = _only(candidates, name, f"{role!r} features of perturbed footage", cache)
    return found


def other_ways(
    roles: Mapping[str, str],
    stores: Mapping[str, FeatureStore],
    twins: Mapping[str, FeatureStore],
) -> tuple[str, ...]:
    """Warn of twins that were not made as the features of the footage itself were.

    Args:
        roles:
            Name of a twin -> role.
        stores:
            Role -> features of the footage.
        twins:
            Name of a twin -> its features.
    """
    warnings = []
    for name, twin in twins.items():
        own = stores[roles[name]]
        if "imported" in (own.recipe["extractor"], twin.recipe["extractor"]):
            continue  # nothing is known of their way
        if way_of(own.recipe) != way_of(twin.recipe):
            warnings.append(
                f"{name} ({twin.name}) was made in another way than {roles[name]} ({own.name}): a "
                "network may learn that difference, and not what was perturbed; extract both with "
                "the same settings, from pixels of the same size (--from)"
            )
    return tuple(warnings)


def _candidates(
    stores: Sequence[FeatureStore], role: str, rows: Mapping[str, ProbeRow], wanted: str | None
) -> list[FeatureStore]:
    """The feature sets with a role: those that are named so, or else whole ones if there are.

    Raises:
        StoreError: there are some, but none of that name.
    """
    found = [s for s in stores if has_role(_roles(s), role)]
    if wanted is not None:
        left = [s for s in found if is_called(s, wanted)]
        if found and not left:
            listed = ", ".join(s.name for s in found)
            near = likely([s.name.rpartition("-")[0] for s in found], wanted)
            have = f"has {role!r} features; these have: {listed}{near}"
            raise StoreError(f"no feature set of the name {wanted!r} {have}")
        return _exact(left, role)
    found = _exact(found, role)
    # prefer sets that are whole to those of a run that never finished
    contents = {row.content_id for row in rows.values()}
    whole = [s for s in found if current_videos(s, rows.values()) == contents]
    return whole or found


def _exact(stores: Sequence[FeatureStore], role: str) -> list[FeatureStore]:
    """The sets with exactly a role, or all: a "frame/objects" is not meant where "frame" exists."""
    return [s for s in stores if role in _roles(s)] or list(stores)


def _roles(store: FeatureStore) -> list[str | None]:
    return [spec["role"] for spec in store.array_specs()]


def _only(candidates: Sequence[FeatureStore], name: str, what: str, cache: Path) -> FeatureStore:
    """The only candidate.

    Raises:
        StoreError: there is none, or there are several.
    """
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise StoreError(f"no feature set in {cache} has {what}: run vadpipe extract first")
    raise StoreError(
        f"several feature sets have {what}:",
        *(f"  {s.name}  {_summary(s)}" for s in candidates),
        f"choose one with --features {name}=NAME",
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


@dataclass(frozen=True)
class UsableVideos:
    """The videos of a training whose files and features are there.

    Attributes:
        records: in the order of the manifest.
        rows: video_id -> file.
        stores: role -> feature set.
        twins: name of a twin -> feature set.
        missing: why each of the others is left out.
    """

    records: tuple[VideoRecord, ...]
    rows: dict[str, ProbeRow]
    stores: dict[str, FeatureStore]
    twins: dict[str, FeatureStore]
    missing: tuple[Failure, ...]


def usable_videos(
    detector: Detector[Any],
    records: Sequence[VideoRecord],
    probed: Probed,
    cache: Path,
    named: Mapping[str, str] | None,
    most: float,
) -> UsableVideos:
    """The features of training videos, without the few videos that cannot be used.

    Args:
        detector:
            What is trained.
        records:
            The training videos.
        probed:
            Their files.
        cache:
            Root of the cache.
        named:
            role (or name of a twin) -> feature set, where several fit.
        most:
            Share of the videos that may be left out.

    Raises:
        DetectorError: more of them cannot be read.
        StoreError: features of more of them are missing, or feature sets are ambiguous.
    """
    allowed = int(most * len(records) + 1e-9)
    lost = {r.video_id: None for r in records if r.video_id not in probed.rows}
    if len(lost) > allowed:
        raise DetectorError(
            f"{len(lost)} training videos cannot be read: {', '.join(list(lost)[:10])}; "
            "run vadpipe probe, then mend them or take them out of the manifest"
        )
    known = {failure.video_id: failure for failure in probed.failures}
    unread = DetectorError("it was not probed: run vadpipe probe")
    missing = [known.get(v) or describe_failure(v, "train", unread) for v in lost]
    rows = {r.video_id: probed.rows[r.video_id] for r in records if r.video_id in probed.rows}
    check_chosen([detector], named or {})
    stores = find_stores(cache, detector.needs, rows, named)
    twins = find_twins(cache, detector.twins, rows, named)
    for role, videos in missing_videos(every := {**stores, **twins}, rows).items():
        name = every[role].name
        if len(set(lost).union(videos)) > allowed:
            raise StoreError(
                f"{name} lacks {len(videos)} training videos: {', '.join(videos[:10])}; "
                "run vadpipe extract with the settings of that feature set, or vadpipe import"
            )
        error = StoreError(f"{name} lacks it: run vadpipe extract, or vadpipe import")
        missing += [describe_failure(v, "train", error) for v in videos if v not in lost]
        lost |= dict.fromkeys(videos)
    left = tuple(r for r in records if r.video_id not in set(lost))
    return UsableVideos(
        left, {r.video_id: rows[r.video_id] for r in left}, stores, twins, tuple(missing)
    )


def rates_of(
    records: Sequence[VideoRecord], rows: Mapping[str, ProbeRow], source: BagSource
) -> dict[str, float]:
    """Frames per second of some videos; without footage, as their features state it.

    Args:
        records:
            The videos.
        rows:
            video_id -> file.
        source:
            Their bags, in this order.

    Returns:
        video_id -> rate.
    """
    found = ((r.video_id, i, rows[r.video_id]) for i, r in enumerate(records))
    return {v: source[i].fps if row.kind == "features" else row.fps for v, i, row in found}


def has_role(roles: Iterable[str | None], role: str) -> bool:
    """Whether arrays with these roles have a role, or a variant of it ("patch/2x3")."""
    return any(own == role or str(own).startswith(f"{role}/") for own in roles)


def is_called(store: FeatureStore, name: str) -> bool:
    """Whether a name chooses a feature set: its beginning, or what it was imported under."""
    return store.name.startswith(name) or import_name(store) == name


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
