"""Avenue, UBnormal, NWPU Campus and Street Scene in their real layouts, with the official counts.

No test decodes them, so videos are files of a few bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vadpipe.data_manifests import avenue
from vadpipe.data_manifests.counts import OFFICIAL, Counts

# Street Scene has 203,257 pictures: too many for a test, which puts these counts in their place.
STREET_SCENE = {"train": Counts(46, 0, 46 * 2, 0), "test": Counts(0, 35, 35 * 4)}


def mat_cells(name: str, values: Sequence[bool]) -> bytes:
    """A MATLAB file with a cell array of masks of 2 x 3 pixels, all 0 or with one 1."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def array(kind: int, shape: tuple[int, int], own: bytes, data: bytes) -> bytes:
        head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape))
        return element(14, head + element(1, own) + data)

    cells = [
        array(9, (2, 3), b"", element(2, bytes([0, 0, flag, 0, 0, 0]))) for flag in (False, True)
    ]
    body = array(1, (1, len(values)), name.encode(), b"".join(cells[int(v)] for v in values))
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + body


def avenue_labels() -> list[np.ndarray]:
    """0 / 1 of each frame of the test videos, 3,712 ones in all; videos 8 and 18 throughout."""
    total = OFFICIAL["avenue"]["test"].abnormal_frames
    assert total is not None
    counts = {8: 36, 18: 294, 21: 60} | dict.fromkeys({*range(2, 21)} - {8, 18}, 150)
    counts[1] = total - sum(counts.values())
    labels = [np.zeros(n, np.uint8) for n in avenue.TEST_FRAMES]
    for number, n in counts.items():
        labels[number - 1][len(labels[number - 1]) - n :] = 1
    return labels


def write_avenue(root: Path) -> Path:
    """The authors' archive and their masks."""
    for folder, n in (("training_videos", 16), ("testing_videos", 21)):
        (root / "Avenue Dataset" / folder).mkdir(parents=True)
        for number in range(1, n + 1):
            (root / "Avenue Dataset" / folder / f"{number:02d}.avi").write_bytes(b"no video")
    masks = root / "ground_truth_demo" / "testing_label_mask"
    masks.mkdir(parents=True)
    for number, own in enumerate(avenue_labels(), start=1):
        (masks / f"{number}_label.mat").write_bytes(mat_cells("volLabel", own.tolist()))
    return root


def write_ubnormal(root: Path) -> Path:
    """The lists, without footage: names of 29 scenes, normal ones first."""
    number = 0
    for split, name in (("train", "training"), ("validation", "validation"), ("test", "test")):
        counts = OFFICIAL["ubnormal"][split]
        for kind, n in (("normal", counts.normal), ("abnormal", counts.abnormal)):
            names = [f"{kind}_scene_{i % 29 + 1}_scenario_{i}" for i in range(number, number + n)]
            number += n
            # As in the published lists, the last line has no end.
            (root / f"{kind}_{name}_video_names.txt").write_text("\n".join(names))
    return root


def write_ubnormal_footage(root: Path) -> Path:
    """A video for each name of the lists; abnormal ones are so in frames 3 to 7 and 9."""
    for path in sorted(root.glob("*_video_names.txt")):
        for name in path.read_text().split():
            scene = root / "footage" / f"Scene{name.split('_')[2]}"
            scene.mkdir(parents=True, exist_ok=True)
            (scene / f"{name}.mp4").write_bytes(b"no video")
            if name.startswith("abnormal"):
                (scene / f"{name}_annotations").mkdir()
                tracks = scene / f"{name}_annotations" / f"{name}_tracks.txt"
                tracks.write_text("7,3,5\n9.0,4.0,7.0\n12, 9, 9\n")
    return root


def write_nwpu_campus(root: Path) -> Path:
    """Names as published; `D001_01` is in both splits. Every second test video is abnormal."""
    labels = {}
    for split, n in (("Train", 305), ("Test", 242)):
        (root / "videos" / split).mkdir(parents=True)
        for i in range(n):
            scene, own = i % 43 + 1, i // 43 + (1 if split == "Train" or i == 0 else 50)
            name = f"D{scene:03d}_{own:02d}"
            (root / "videos" / split / f"{name}.avi").write_bytes(b"no video")
            if split == "Test":
                labels[name] = np.zeros(20 + i, np.uint8)
                labels[name][5:9] = i % 2
    (root / "groundtruth").mkdir()
    np.savez(root / "groundtruth" / "NWPU_Campus_gt.npz", **labels)
    return root


def write_street_scene(root: Path) -> Path:
    """Two frames a training clip, four a test clip (`STREET_SCENE`); a track in frames 2 and 3."""
    for split, n, frames in (("Train", 46, 2), ("Test", 35, 4)):
        for i in range(1, n + 1):
            clip = root / split / f"{split}{i:03d}"
            clip.mkdir(parents=True)
            for frame in range(1, frames + 1):
                (clip / f"{frame:03d}.jpg").write_bytes(b"no picture")
            if split == "Test":
                lines = [f"{clip.name}/{f:03d}.jpg 0 100 50 20 10" for f in (2, 3)]
                (clip / f"{clip.name}_gt.txt").write_text("\n".join(lines) + "\n")
    return root
