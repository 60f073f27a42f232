"""The official totals of the data sets, and the comparison of a manifest with them.

Each split has one `Counts`. Numbers that no public label file states are None and are not compared.

Sources: Ped2, ShanghaiTech and UCF-Crime are counted from the public label files. The frames of
UCF-Crime are from the list of frame counts that UR-DMU published. XD-Violence is as stated in P. Wu
et al., "Not only Look, but also Listen", ECCV 2020, Sect. 3. Avenue is counted from the official
masks and from the label file of the MNAD and LNTRA repositories (training frames: as commonly
stated), UBnormal from its lists; NWPU Campus and Street Scene are as their papers state them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .record import Manifest, ManifestError, VideoRecord


@dataclass(frozen=True)
class Counts:
    """Totals of one split.

    Attributes:
        normal: videos with label 0.
        abnormal: videos with label 1.
        frames: frames of all videos; None if the number is unknown for one of them.
        abnormal_frames: frames labelled abnormal; None if the labels of one video are unknown.
        categories: class of anomaly -> number of videos; empty where nothing is stated.
    """

    normal: int
    abnormal: int
    frames: int | None = None
    abnormal_frames: int | None = None
    categories: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


_UCF_CRIME = {  # class -> (training videos, test videos)
    **{"Abuse": (48, 2), "Arrest": (45, 5), "Arson": (41, 9), "Assault": (47, 3)},
    **{"Burglary": (87, 13), "Explosion": (29, 21), "Fighting": (45, 5)},
    **{"RoadAccidents": (127, 23), "Robbery": (145, 5), "Shooting": (27, 23)},
    **{"Shoplifting": (29, 21), "Stealing": (95, 5), "Vandalism": (45, 5)},
}

# Name of a manifest's data set -> split -> what it holds.
OFFICIAL: dict[str, dict[str, Counts]] = {
    "ucsd_ped2": {"train": Counts(16, 0, 2_550, 0), "test": Counts(0, 12, 2_010, 1_648)},
    "shanghaitech": {"train": Counts(175, 63), "test": Counts(155, 44, None, 7_962)},
    "shanghaitech_one_class": {
        "train": Counts(330, 0, None, 0),
        "test": Counts(0, 107, 40_791, 17_326),
    },
    "ucf_crime": {
        "train": Counts(800, 810, categories={k: n for k, (n, _) in _UCF_CRIME.items()}),
        "test": Counts(150, 140, 1_111_808, 84_331, {k: n for k, (_, n) in _UCF_CRIME.items()}),
    },
    "avenue": {"train": Counts(16, 0, 15_328, 0), "test": Counts(0, 21, 15_324, 3_712)},
    "avenue_frame_labels": {
        "train": Counts(16, 0, 15_328, 0),
        "test": Counts(0, 21, 15_324, 3_867),
    },
    "ubnormal": {
        "train": Counts(186, 82),
        "validation": Counts(26, 38),
        "test": Counts(53, 158),
    },
    "ubnormal_one_class": {"train": Counts(186, 0), "test": Counts(26, 38)},
    "nwpu_campus": {"train": Counts(305, 0)},
    "street_scene": {"train": Counts(46, 0, 56_847, 0), "test": Counts(0, 35, 146_410)},
    "xd_violence": {"train": Counts(2_049, 1_905), "test": Counts(300, 500)},
}


def count(records: Iterable[VideoRecord]) -> Counts:
    """Count the videos and frames of some records; an unknown label is in neither class."""
    records = list(records)
    frames = [r.expected_frames for r in records]
    labelled = [r.anomalies for r in records]
    return Counts(
        normal=sum(r.label == 0 for r in records),
        abnormal=sum(r.label == 1 for r in records),
        frames=None if None in frames else sum(n for n in frames if n is not None),
        abnormal_frames=None
        if None in labelled
        else sum(stop - start for ranges in labelled for start, stop in ranges or ()),
        categories=dict(Counter(r.category for r in records if r.category is not None)),
    )


def differences(manifest: Manifest) -> list[str]:
    """List the totals of a manifest that differ from the official ones, one line each.

    Splits that the manifest does not have, and data sets without stated numbers, are not compared.
    """
    lines = []
    for split, stated in OFFICIAL.get(manifest.dataset, {}).items():
        records = manifest.select(split=split).records
        if not records:
            continue
        found = count(records)
        pairs = [
            ("normal videos", found.normal, stated.normal),
            ("abnormal videos", found.abnormal, stated.abnormal),
            ("frames", found.frames, stated.frames),
            ("abnormal frames", found.abnormal_frames, stated.abnormal_frames),
        ]
        if stated.categories:
            names = sorted({*found.categories, *stated.categories})
            pairs += [
                (f"videos of {name}", found.categories.get(name, 0), stated.categories.get(name, 0))
                for name in names
            ]
        lines += [
            f"{split}: {what}: found {have:,}, the data set has {should:,}"
            for what, have, should in pairs
            if have is not None and should is not None and have != should
        ]
    return lines


def check_totals(manifest: Manifest) -> Manifest:
    """Return the manifest unchanged if both its splits have the official totals.

    Raises:
        ManifestError: the totals differ, or a split has no video.
    """
    lines = [
        f"{split}: no video"
        for split in OFFICIAL[manifest.dataset]
        if not manifest.select(split=split).records
    ]
    lines += differences(manifest)
    if lines:
        raise ManifestError(
            f"{manifest.dataset} is not complete: {'; '.join(lines)}; get the official label "
            "files, or ask for a subset"
        )
    return manifest
