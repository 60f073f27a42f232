"""Boxes files: three formats say the same, and what is wrong is named."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection.boxes_file import BOM, CARDS, BoxesFile, from_file
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.networks.coco import COCO
from vadpipe.extractors.weights.cards import BYTES, ResolvedWeights, WeightsError
from vadpipe.extractors.weights.guarded_read import OPAQUE_MEMORY_GROWTH
from vadpipe.extractors.weights.kept import resolve

HEAD = b"video,frame,x0,y0,x1,y1,score,classes\n"
CSV = """video,frame,x0,y0,x1,y1,score,classes
test/b.mp4,3,1,2,11,22,0.5,person:0.75;bicycle:0.25
test/b.mp4,2,5,5,9,9,,
a,0,,,,,,
test/b.mp4,3,3,4,13,24,0.25,car:0.5
"""


def opened(path: Path, text: str | bytes) -> BoxesFile:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = BoxesFile(resolve(CARDS, str(path), cache=path.parent / "cache"))
    found.load(Runtime())
    return found


def clip(video: str, frame: int) -> Clip:
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    return Clip(pictures, np.arange(frame - 1, frame + 2), np.zeros(3), frame, frame + 1, 0, video)


def test_boxes_of_a_frame(tmp_path: Path) -> None:
    boxes = opened(tmp_path / "boxes.csv", CSV)
    found = boxes.detect(clip("/data/test/b.mp4", 3), 1)
    assert found.boxes.tolist() == [[1, 2, 11, 22], [3, 4, 13, 24]]
    assert found.scores.tolist() == found.objectness.tolist() == [0.5, 0.25]
    assert found.classes[0, :2].tolist() == [0.75, 0.25] and found.classes[1, 2] == 0.5
    assert found.classes.sum() == 1.5
    plain = boxes.detect(clip("/data/test/b.mp4", 2), 1)
    assert plain.scores.tolist() == [1] and not plain.classes.any()
    assert len(boxes.detect(clip("/data/test/b.mp4", 4), 1)) == 0
    assert len(boxes.detect(clip("/data/train/a", 0), 1)) == 0, "known, and without objects"


def test_short_rows_in_any_order_need_no_more_memory_than_their_reader_has() -> None:
    rows = [f"{'ab'[i % 2]},{i * 7 % 10},0,0,{i % 9},1" for i in range(4000)]
    text = "\n".join(["video,frame,x0,y0,x1,y1", *rows]).encode()
    from_file({BYTES: np.frombuffer(text[:35], np.uint8)})  # imports
    tracemalloc.start()
    found = from_file({BYTES: np.frombuffer(text, np.uint8)})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(values.nbytes for values in found.values()) > 29 * len(text)
    assert most < OPAQUE_MEMORY_GROWTH * len(text)
    order = sorted(range(4000), key=lambda i: (i % 2, i * 7 % 10))
    assert found["boxes"][:, 2].tolist() == [i % 9 for i in order]
    assert found["frame"].tolist() == [i * 7 % 10 for i in order]
    assert found["classes"].shape == (4000, len(COCO))


def test_the_longest_name_wins_and_an_unknown_video_is_an_error(tmp_path: Path) -> None:
    text = "video,frame,x0,y0,x1,y1\nb,0,0,0,1,1\ntest/b,0,0,0,2,2\n"
    boxes = opened(tmp_path / "boxes.csv", text)
    assert boxes.detect(clip("/data/test/b.avi", 0), 1).boxes[0, 2] == 2
    assert boxes.detect(clip("/data/train/b.avi", 0), 1).boxes[0, 2] == 1
    with pytest.raises(ExtractorError, match=r"no video that /data/bb.avi ends with; it has b, te"):
        boxes.detect(clip("/data/bb.avi", 0), 1)


def test_one_name_for_two_videos_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text(CSV)
    boxes = BoxesFile(resolve(CARDS, str(tmp_path / "boxes.csv"), cache=tmp_path / "cache"))
    boxes.check_videos(["/cam1/a.mp4", "/test/b.mp4", "/other.mp4"])
    with pytest.raises(ExtractorError, match=r"one video 'a', .* file: cam1/a, cam2/a$"):
        boxes.check_videos(["/cam1/a.mp4", "/cam2/a.mp4"])


def test_parquet_and_coco_say_the_same(tmp_path: Path) -> None:
    expected = opened(tmp_path / "boxes.csv", CSV)
    classes = np.zeros((4, len(COCO)))
    classes[0, :2], classes[3, 2] = (0.75, 0.25), 0.5
    table = {
        "video": ["test/b", "test/b", "a", "test/b"],
        "frame": [3, 2, None, 3],
        "score": [0.5, None, None, 0.25],
        "classes": classes.tolist(),
    }
    for i, side in enumerate(("x0", "y0", "x1", "y1")):
        table[side] = [[1, 2, 11, 22][i], [5, 5, 9, 9][i], None, [3, 4, 13, 24][i]]
    pq.write_table(pa.table(table), tmp_path / "boxes.parquet")
    parquet = opened(tmp_path / "b.parquet", (tmp_path / "boxes.parquet").read_bytes())
    coco = {
        "videos": [{"id": 7, "name": "test/b"}, {"id": 8, "name": "a"}],
        "categories": [{"id": 3, "name": "car"}],
        "images": [
            {"id": 30, "video_id": 7, "frame_id": 3},
            {"id": 20, "video_id": 7, "frame_id": 2},
        ],
        "annotations": [
            {"image_id": 20, "bbox": [5, 5, 4, 4]},
            {"image_id": 30, "bbox": [3, 4, 10, 20], "score": 0.25, "category_id": 3},
        ],
    }
    json_file = opened(tmp_path / "boxes.json", json.dumps(coco))
    for frame in (2, 3):
        wanted = expected.detect(clip("/test/b.mp4", frame), 1)
        found = parquet.detect(clip("/test/b.mp4", frame), 1)
        assert np.array_equal(found.boxes, wanted.boxes)
        assert np.array_equal(found.scores, wanted.scores)
        assert np.array_equal(found.classes, wanted.classes)
        of_json = json_file.detect(clip("/test/b.mp4", frame), 1)
        assert of_json.boxes[-1].tolist() == wanted.boxes[-1].tolist()
        assert of_json.scores[-1] == wanted.scores[-1]
    assert of_json.classes[0, 2] == 0.25 and of_json.objectness[0] == 1
    assert len(json_file.detect(clip("/a", 1), 1)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,frame,x0,y0,x1\n", "lacks the columns y1"),
        ("video,frame,x0,y0,x1,y1,id\n", "columns id, which mean nothing"),
        ("video,frame,x0,y0,x1,y1\n", "names no video"),
        ("video,frame,x0,y0,x1,y1\nb,1,5,0,1,1\n", "line 2: box .*x0 <= x1"),
        ("video,frame,x0,y0,x1,y1\nb,-1,0,0,1,1\n", "line 2: frame -1 is negative"),
        ("video,frame,x0,y0,x1,y1\nb,1,0,0,nan,1\n", "line 2: box .*finite"),
        ("video,frame,x0,y0,x1,y1\nb,1,0,0,1,\n", "line 2: could not convert"),
        ("video,frame,x0,y0,x1,y1\nb,1,0,0,1,1,1\n", "line 2 has more fields"),
        ("video,frame,x0,y0,x1,y1,score\nb,1,0,0,1,1,1.5\n", "line 2: score 1.5 is not in 0 to 1"),
        ("video,frame,x0,y0,x1,y1,classes\nb,1,0,0,1,1,tram:1\n", "'tram' is none of the 80"),
        ("PAR1nothing", "damaged Parquet"),
        ('{"images": []}', "is not COCO JSON.*videos"),
        (b"\xff\xfe\x00", "neither CSV, nor Parquet, nor COCO"),
        (HEAD.decode().replace("score", "x0"), "columns x0 more than once"),
        (HEAD + b"v,0,0,0,1,1,1,\nv,1,", "line 3 has fewer fields .* cut off"),
        (HEAD + b"v,0,0,0,1,1,1,,\n", "line 2 has more fields"),
        (HEAD + b"v,1.5,0,0,1,1,1,\n", "line 2: frame 1.5 is no whole number"),
        (HEAD + b"v,1_0,0,0,1,1,1,\n", "line 2: '1_0' is no number"),
        (HEAD + b"v,0,0,0,1e300,1,1,\n", "line 2: .* places that no picture has"),
        (HEAD + b"v,0,0,0,inf,1,1,\n", "line 2: .* finite numbers"),
        (HEAD + b"v,0,0,0,1,1,1,person:1;person:0\n", "line 2: 'person' has two probabilities"),
        (HEAD + b"v\0,0,0,0,1,1,1,\n", "line 2: .* no name of a video"),
    ],
)
def test_what_is_wrong_is_named(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        opened(tmp_path / "boxes", text)


COCO_FILE: dict[str, Any] = {
    "videos": [{"id": 7, "name": "v"}],
    "categories": [{"id": 3, "name": "car"}],
    "images": [{"id": 1, "video_id": 7, "frame_id": 0}],
    "annotations": [{"image_id": 1, "bbox": [0, 0, 5, 5], "category_id": 3}],
}


def annotated(**changes: Any) -> dict[str, Any]:
    return {"annotations": [{**COCO_FILE["annotations"][0], **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"videos": COCO_FILE["videos"] * 2}, "video 7 is there twice"),
        ({"videos": [{"id": 7, "name": "v"}, {"id": 8, "name": "v"}]}, "two videos have one name"),
        ({"videos": [{"id": 7, "name": None}]}, "video None is no text"),
        ({"videos": [{"id": 7, "name": "\ud800"}]}, "surrogates"),
        ({"images": COCO_FILE["images"] * 2}, "image 1 is there twice"),
        ({"images": [{"id": 1, "video_id": 9, "frame_id": 0}]}, "9 is the id of no video"),
        (
            {"images": [{"id": i, "video_id": 7, "frame_id": 0} for i in (1, 2)]},
            "two images are the same frame",
        ),
        ({"images": [{"id": 1, "video_id": 7, "frame_id": 0.5}]}, "frame 0.5 is no whole number"),
        ({"images": [{"id": 1, "video_id": 7, "frame_id": True}]}, "True is no number"),
        ({"categories": COCO_FILE["categories"] * 2}, "category 3 is there twice"),
        (annotated(image_id=5), "annotation 0: 5 is the id of no image"),
        (annotated(image_id=[1]), "annotation 0: .*unhashable"),
        (annotated(category_id=5), "annotation 0: 5 is the id of no category"),
        (annotated(bbox=[0, 0, -5, 5]), "annotation 0: box"),
        (annotated(bbox=[0, 0, 10**400, 5]), "annotation 0: int too large"),
        (annotated(bbox=[0, 0, 5]), "annotation 0: not enough values"),
        ({"annotations": [{"image_id": 1}]}, "annotation 0 has no 'bbox'"),
    ],
)
def test_what_is_wrong_in_coco_json_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        opened(tmp_path / "boxes.json", json.dumps({**COCO_FILE, **changes}))


def test_byte_order_marks_ends_of_lines_and_points_change_nothing(tmp_path: Path) -> None:
    text = HEAD + b"v,3.0,1,2,11,22,0.5,person : 0.75\n"
    for number, data in enumerate((text, BOM + text, text.replace(b"\n", b"\r\n"))):
        found = opened(tmp_path / f"{number}.csv", data).detect(clip("/v.mp4", 3), 1)
        assert found.boxes.tolist() == [[1, 2, 11, 22]] and found.classes[0, 0] == 0.75
    marked = opened(tmp_path / "b.json", BOM + json.dumps({**COCO_FILE, **annotated()}).encode())
    assert marked.detect(clip("/v.mp4", 0), 1).classes[0, 2] == 1
    accents = HEAD + "cafe\u0301,0,0,0,1,1,1,\n".encode()
    assert len(opened(tmp_path / "a.csv", accents).detect(clip("/caf\u00e9.mp4", 0), 1)) == 1


def test_a_box_after_the_end_of_its_video_is_an_error(tmp_path: Path) -> None:
    boxes = opened(tmp_path / "boxes.csv", CSV)
    boxes.check_end("/test/b.mp4", 4)
    boxes.check_end("/a.mp4", 1)
    with pytest.raises(
        ExtractorError, match=r"frame 3 of test/b.mp4, but .* has the frames 0 to 2"
    ):
        boxes.check_end("/test/b.mp4", 3)


def test_there_are_no_random_boxes() -> None:
    with pytest.raises(WeightsError, match="no random boxes: give a file"):
        BoxesFile(ResolvedWeights(CARDS[0], "random:0", None)).load(Runtime())
