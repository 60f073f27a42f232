"""Files of others that the program reads: features, labels, masks, scenes, boxes and tracks.

As `file_kinds`: a new kind is one more entry of FOREIGN_KINDS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.io import savemat

from tests.file_kinds import FileKind
from vadpipe.data_manifests import (
    nwpu_campus,
    pets2009,
    plaza,
    shanghaitech,
    synthetic,
    ubnormal,
    ucf_crime,
    ucsd_ped2,
    xd_violence,
)
from vadpipe.data_manifests.intervals import mask_labels
from vadpipe.data_manifests.mat_intervals import read_mat_intervals
from vadpipe.data_manifests.tracks import read_tracks, read_video_tracks
from vadpipe.extractors.detection.boxes_file import CARDS
from vadpipe.extractors.weights.kept import convert_file, file_sha256
from vadpipe.extractors.weights.read import read_arrays
from vadpipe.pipeline.importing.files import find_files
from vadpipe.pipeline.importing.mot import read_mot
from vadpipe.pipeline.review.verdicts import read_verdicts

Write = Callable[[Path], object]
Read = Callable[[Path], object]


def _kind(name: str, form: str, file: str, write: Write, read: Read) -> FileKind:
    """A kind whose writer and reader take the file itself."""

    def made(folder: Path) -> Path:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        return path

    return FileKind(name, form, made, lambda folder: read(folder / file))


def _text(text: str) -> Write:
    return lambda path: path.write_text(text, encoding="utf-8")


# --- features


FEATURES = np.arange(24, dtype=np.float32).reshape(6, 4)


def _read_features(path: Path) -> None:
    found, broken = find_files([path])
    for each in found:
        each.read()
    for error in broken.values():
        raise error


def _pets(path: Path) -> None:
    labels = np.zeros((2, 16), np.uint8)
    values = {"000_x": np.ones((2, 8)), "000_yf": labels, "000_name": np.array("S0-train--T")}
    np.savez(path, **values)


def _torch(path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(2, 3), "b": {"c": torch.zeros(4, dtype=torch.int64)}}, path)


# --- labels and masks


def _mat(values: np.ndarray) -> Write:
    return lambda path: savemat(path, {"gt": values})


def _cells(path: Path) -> None:
    cells = np.empty((1, 3), dtype=object)
    for place in range(3):
        cells[0, place] = np.eye(4, dtype=np.uint8)
    savemat(path, {"volLabel": cells}, do_compression=True)


def _label_archive(path: Path) -> None:
    np.savez(path, **{"D001_01": np.array([0, 1, 1, 0]), "D001_02": np.zeros(3)})


def _read_label_archive(path: Path) -> None:
    nwpu_campus.read_labels(path.parents[len(Path(nwpu_campus.LABELS[0]).parts) - 1])


# --- scenes


def _scene(path: Path) -> None:
    path.write_text(json.dumps({"frames": 4, "train": 0, "test": 1, "seed": 1}))
    _clip(path.parent, "Test001")


def _clip(root: Path, name: str) -> None:
    for folder in ("train", "test", "labels", "tracks", f"masks/{name}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "test" / f"{name}.mp4").write_bytes(b"not opened")
    (root / "labels" / f"{name}.txt").write_text("0\n1\n1\n0\n")
    (root / "tracks" / f"{name}.csv").write_text(
        "track_id,frame,x0,y0,x1,y1\n1,1,0,0,1,1\n1,2,0,0,1,1\n"
    )
    from PIL import Image

    for frame in range(4):
        picture = np.full((2, 2), 255 * (frame in (1, 2)), np.uint8)
        Image.fromarray(picture).save(root / "masks" / name / f"{frame:06d}.png")


def _clip_file(file: str, path: Path) -> None:
    _scene(path.parents[len(Path(file).parts) - 1] / "scene.json")


def _plaza(path: Path) -> None:
    clip = {"name": "Train001", "split": "train", "scene": "a", "event": None, "size": None}
    counts = {"train": 1, "validation": 0, "test": 0}
    fields = plaza.Clip.__dataclass_fields__
    clip = {name: clip.get(name) for name in fields}
    path.write_text(json.dumps({"frames": 4, **counts, "clips": [clip]}))
    (path.parent / "train").mkdir(exist_ok=True)
    (path.parent / "train" / "Train001.mp4").write_bytes(b"not opened")


# --- boxes and tracks


BOXES = "video,frame,x0,y0,x1,y1,score,classes\na/v,0,1,2,3,4,0.5,person:0.9;car:0.1\na/w,1,,,,,,\n"
ONE = {"video": ["v"], "frame": [0], "x0": [1.0], "y0": [2.0], "x1": [3.0], "y1": [4.0]}
COCO_FILE = {
    "videos": [{"id": 1, "name": "v"}],
    "categories": [{"id": 3, "name": "person"}],
    "images": [{"id": 7, "video_id": 1, "frame_id": 0}],
    "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4], "category_id": 3, "score": 0.5}],
}


def _read_boxes(path: Path) -> None:
    convert_file(path, file_sha256(path), CARDS, path.parent / "weights")


MOT = "1,1,10,20,5,6,0.9,-1,-1,-1\n2,1,11,20,5,6,1\n2,2,30 ,2,5,6,-1\n"
MANY = "video_id,track_id,frame,x0,y0,x1,y1\nv,1,0,1,2,3,4\nw,2,5,1,2,3,4.5\n"


VERDICTS = json.dumps(
    {
        "format": "vadpipe verdicts",
        "version": 1,
        "page": "p",
        "verdicts": [
            {
                "video_id": "v", "content_id": "s1-0", "verdict": "reject", "note": "wind",
                "frame_start": 3, "frame_stop": 9, "peak_frame": 5, "corrected_start": None,
                "corrected_stop": 8,
            }
        ],
    }
)  # fmt: skip

FOREIGN_KINDS = [
    _kind("features", "npy", "v.npy", lambda path: np.save(path, FEATURES), _read_features),
    _kind(
        "features", "npz", "v.npz",
        lambda path: np.savez_compressed(path, a=FEATURES, b=FEATURES), _read_features,
    ),
    _kind("features", "text", "v.txt", _text("1 2 3\n4 5 6\n"), _read_features),
    _kind("PETS 2009", "npz", "pets2009-train-view-001.npz", _pets, pets2009.read_archive),
    _kind("weights", "torch", "w.pth", _torch, read_arrays),
    _kind(
        "labels of ShanghaiTech", "npy", "01_0014.npy",
        lambda path: np.save(path, np.array([0, 1, 1, 0])), shanghaitech.read_mask,
    ),
    _kind("list of ShanghaiTech", "text", "l.txt",
          _text("01_001\n01_0014\n"), shanghaitech.read_list),
    _kind(
        "labels of NWPU Campus", "npz", str(nwpu_campus.LABELS[0]),
        _label_archive, _read_label_archive,
    ),
    _kind(
        "intervals", "mat", "ped2.mat", _mat(np.array([[1, 4], [2, 6], [3, 3]], np.float64)),
        partial(read_mat_intervals, n_videos=3),
    ),
    _kind("intervals of Ped2", "text", "UCSDped2.m",
          _text("TestVideoFile = {};\nTestVideoFile{end+1}.gt_frame = [61:180, 200];\n"),
          ucsd_ped2.read_intervals),
    _kind("annotations of UCF-Crime", "text", "a.txt",
          _text("Abuse028_x264.mp4  Abuse  165  240  -1  -1\n"), ucf_crime.read_annotations),
    _kind("list of UCF-Crime", "text", "l.txt",
          _text("Abuse/Abuse001_x264.mp4\n"), ucf_crime.read_train_list),
    _kind("list of XD-Violence", "text", "l.txt",
          _text("v=a__#1_label_A.mp4\n"), xd_violence.read_list),
    _kind("events of UBnormal", "text", "t.txt", _text("1,3,9\n2,4,5\n"), ubnormal.event_ranges),
    _kind(
        "masks", "npy", "m.npy",
        lambda path: np.save(path, np.ones((3, 4, 5), np.uint8)), mask_labels,
    ),
    _kind("masks", "mat", "m.mat", _cells, mask_labels),
    _kind("scene", "json", "scene.json", _scene, lambda path: synthetic.build(path.parent)),
    *(
        _kind(
            f"scene {file}", form, file, partial(_clip_file, file),
            lambda path, file=file: synthetic.build(path.parents[len(Path(file).parts) - 1]),
        )
        for file, form in (
            ("labels/Test001.txt", "text"),
            ("tracks/Test001.csv", "csv"),
            ("masks/Test001/000001.png", "png"),
        )
    ),
    _kind("plaza", "json", "plaza.json", _plaza, lambda path: plaza.build(path.parent)),
    _kind("boxes", "csv", "b.csv", _text(BOXES), _read_boxes),
    _kind("boxes", "parquet", "b.parquet",
          lambda path: pq.write_table(pa.table(ONE), path), _read_boxes),
    _kind("boxes", "json", "b.json", _text(json.dumps(COCO_FILE)), _read_boxes),
    _kind("boxes with tracks", "csv", "v.txt", _text(MOT), read_mot),
    _kind("verdicts", "json", "v.json", _text(VERDICTS), read_verdicts),
    _kind("tracks", "csv", "t.csv", _text(MANY), read_tracks),
    _kind("tracks of a video", "csv", "v.csv",
          _text("track_id,frame,x0,y0,x1,y1\n1,0,1,2,3,4\n"), read_video_tracks),
    _kind("tracks of a video", "text", "v.txt", _text("000001.jpg 1 5 5 2 2\n"), read_video_tracks),
]  # fmt: skip
