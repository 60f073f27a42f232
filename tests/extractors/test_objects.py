"""Objects: rows of frames and objects, edge cases, what is in the key."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.random_weights import random_weights
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors import objects
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection.crops import cut_crops
from vadpipe.extractors.detection.runs import decode_masks
from vadpipe.extractors.detection.teacher import Lesson
from vadpipe.extractors.detection.vectors import VectorNetwork
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.objects import MOTION_VERSION, Objects, ObjectsConfig
from vadpipe.extractors.weights.cards import ResolvedWeights
from vadpipe.pipeline.engine.clip_memory import clip_bytes
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import Extracted, extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.store.keys import key_of

BOXES = "video,frame,x0,y0,x1,y1,score,classes\n"


def with_boxes(path: Path, text: str, **settings: Any) -> Objects:
    path.write_text(BOXES + text)
    options = {"detector": "boxes", **settings}
    spec = resolve_extractor("objects", options, weights=str(path), cache=path.parent / "cache")
    made: Objects = spec.make()
    made.load(Runtime())
    return made


def clips_of(extractor: Objects, numbers: list[int], n_frames: int) -> list[Clip]:
    """Clips of a video of random pictures, as the engine cuts them."""
    pictures = np.random.default_rng(0).integers(0, 256, (n_frames, 40, 60, 3), np.uint8)
    reach = extractor.reach
    clips = []
    for i in numbers:
        index = np.clip(np.arange(i - reach, i + reach + 1), 0, n_frames - 1)
        clips.append(Clip(pictures[index], index, index / 25, i, i + 1, 0, "/data/v.mp4"))
    return clips


def test_rows_of_frames_and_objects(tmp_path: Path) -> None:
    text = "v,1,10,10,30,30,0.5,person:1\nv,1,5,5,20,35,0.75,car:1\nv,3,-9,-9,9,9,1,\n"
    extractor = with_boxes(tmp_path / "b.csv", text, crop_context=1, crop_size=8)
    rows = extractor.extract(clips_of(extractor, [0, 1, 2, 3], 4))
    frames, objects = rows["frame"], rows["object"]
    assert frames.arrays["objects"].tolist() == [0, 2, 0, 1]
    assert frames.arrays["frame_size"].tolist() == [[40, 60]] * 4
    assert objects.frame_start.tolist() == [1, 1, 3] and objects.frame_stop.tolist() == [2, 2, 4]
    assert objects.clip_start is not None and objects.clip_start.tolist() == [1, 1, 3]
    assert objects.arrays["scores"].tolist() == [0.75, 0.5, 1]  # the best first
    assert objects.arrays["boxes"].tolist() == [[5, 5, 20, 35], [10, 10, 30, 30], [0, 0, 9, 9]]
    assert objects.arrays["classes"].argmax(1).tolist() == [2, 0, 0]
    assert objects.arrays["crops"].shape == (3, 3, 8, 8, 3)
    crops = objects.arrays["crops"]
    assert np.array_equal(crops[2, 1], crops[2, 2]), "the last frame of the video is repeated"
    assert not np.array_equal(crops[2, 0], crops[2, 1])


def test_a_batch_without_objects_has_empty_arrays(tmp_path: Path) -> None:
    extractor = with_boxes(tmp_path / "b.csv", "v,,,,,,,\n", crop_context=3)
    rows = extractor.extract(clips_of(extractor, [0, 1], 2))
    assert rows["frame"].arrays["objects"].tolist() == [0, 0]
    shapes = {spec.name: spec.shape for spec in extractor.arrays if spec.axis == "object"}
    for name, array in rows["object"].arrays.items():
        assert array.shape == (0, *shapes[name])


def test_more_objects_than_allowed_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "".join(
        f"v,0,{x},{y},{x + 5},{y + 5},{0.5 + x / 200},\n"
        for x in range(0, 55, 6)
        for y in range(0, 34, 6)
    )
    extractor = with_boxes(tmp_path / "b.csv", text, max_objects=10)
    with caplog.at_level(logging.WARNING):
        rows = extractor.extract(clips_of(extractor, [0], 1))
    assert rows["frame"].arrays["objects"].tolist() == [10]
    assert "frame 0 has 60 objects, 50 of them above max_objects = 10" in caplog.text


def test_motion_is_added_to_another_detector(tmp_path: Path) -> None:
    extractor = with_boxes(
        tmp_path / "b.csv", "v,2,0,0,8,8,1,\n", with_motion=True, motion_reach=15, score=0.2
    )
    assert extractor.reach == 15
    frames = np.full((31, 40, 60, 3), 40, np.uint8)
    for t in range(31):
        frames[t, 20:30, min(50, 2 * t) : min(50, 2 * t) + 10] = 220
    clip = Clip(frames, np.arange(-13, 18), np.zeros(31), 2, 3, 0, "v.mp4")
    boxes = extractor.extract([clip])["object"].arrays["boxes"]
    assert len(boxes) == 2 and [0, 0, 8, 8] in boxes.tolist()
    assert np.abs(boxes - [30, 20, 40, 30]).max(1).min() <= 2


def test_the_key_holds_detector_thresholds_and_hashes(tmp_path: Path) -> None:
    def key(text: str = "v,,,,,,,\n", **settings: Any) -> str:
        made = with_boxes(tmp_path / f"{len(list(tmp_path.iterdir()))}.csv", text, **settings)
        return key_of(made.recipe())

    assert key() == key(), "the place of the file is not in the key"
    changed = [key("v,0,,,,,,\nw,,,,,,,\n"), key(score=0.5), key(overlap=0.4), key(min_width=5)]
    changed += [key(max_objects=9), key(with_motion=True), key(crop_context=0), key(stride=2)]
    assert len({key(), *changed}) == 9
    recipe = with_boxes(tmp_path / "b.csv", "v,,,,,,,\n").recipe()
    assert recipe["config"]["score"] == 0 and recipe["precision"] is None


def test_only_what_motion_takes_part_in_has_a_new_version(tmp_path: Path) -> None:
    def version(**settings: Any) -> int:
        number: int = with_boxes(tmp_path / "b.csv", "v,,,,,,,\n", **settings).recipe()["version"]
        return number

    assert version() == version(flow="dis") == 1
    assert version(with_motion=True) == version(masks="motion") == MOTION_VERSION == 2
    motion = ObjectsConfig.model_validate({"detector": "motion"})
    assert Objects(motion).recipe()["version"] == 2


def test_a_boxes_file_with_one_name_for_two_videos_is_refused_before_anything_is_done(
    scene: Manifest, tmp_path: Path
) -> None:
    own = [record for record in scene.records[:2]]
    places = [tmp_path / camera / "a.mp4" for camera in ("cam1", "cam2")]
    for record, place in zip(own, places, strict=True):
        place.parent.mkdir()
        shutil.copy(Path(scene.root) / record.path, place)
    moved = [
        record.model_copy(update={"path": str(place.relative_to(tmp_path))})
        for record, place in zip(own, places, strict=True)
    ]
    manifest = scene.model_copy(update={"records": tuple(moved), "root": str(tmp_path)})
    cache = tmp_path / "cache"
    probed = probe_files(manifest, cache)

    def extracted(text: str) -> Extracted:
        (tmp_path / "b.csv").write_text(BOXES + text)
        settings = {"detector": "boxes", "stride": 16}
        spec = resolve_extractor("objects", settings, weights=str(tmp_path / "b.csv"), cache=cache)
        return extract_features(manifest, probed, [spec], cache)

    with pytest.raises(ExtractorError, match=r"2 videos of this run .* cam1/a, cam2/a$"):
        extracted("a,0,2,2,12,12,1,\n")
    assert not list(cache.rglob("*.h5"))
    assert not extracted("cam1/a,0,2,2,12,12,1,\ncam2/a,,,,,,,\n").failures


def test_each_detector_has_its_own_threshold() -> None:
    assert ObjectsConfig(detector="yolox").score == 0.3
    assert ObjectsConfig(detector="motion").score == 0.0
    assert ObjectsConfig.model_validate({"detector": "yolox", "score": None}).score == 0.3
    assert ObjectsConfig(detector="motion", score=0.4).score == 0.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector": "motion", "with_motion": True}, "this one is motion"),
        ({"detector": "motion", "tile_scale": 2.0}, "motion looks at no tiles"),
        ({"motion_samples": 4}, "odd number"),
        ({"appearance": True}, "name a teacher"),
        ({"masks": "detector"}, "yolox makes no masks: .* one that does: maskrcnn"),
        ({"detector": "maskrcnn", "masks": "detector", "with_motion": True}, "have no masks"),
        ({"detector": "maskrcnn", "masks": "detector", "tile_scale": 2.0}, "have no masks"),
        ({"detector": "yolo9000"}, "yolo9000"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ObjectsConfig.model_validate(settings)


def test_crops_are_pixels_that_the_user_must_allow(scene: Manifest, tmp_path: Path) -> None:
    manifest = scene.model_copy(update={"records": scene.records[:1]})
    probed = probe_files(manifest, tmp_path)
    settings = {"detector": "motion", "stride": 16, "crop_context": 3}
    spec = resolve_extractor("objects", settings)
    with pytest.raises(ExtractorError, match="objects keeps pixels"):
        extract_features(manifest, probed, [spec], tmp_path)
    plain = resolve_extractor("objects", {**settings, "crop_context": None})
    assert not extract_features(manifest, probed, [plain], tmp_path).failures


def test_a_video_of_three_frames(tmp_path: Path) -> None:
    extractor = with_boxes(
        tmp_path / "b.csv", "v,0,2,2,12,12,1,\nv,2,2,2,12,12,1,\n", crop_context=3
    )
    rows = extractor.extract(clips_of(extractor, [0, 1, 2], 3))["object"]
    first, last = rows.arrays["crops"]
    assert all(np.array_equal(first[t], first[3]) for t in range(3))
    assert all(np.array_equal(last[t], last[3]) for t in range(4, 7))
    assert np.array_equal(first[5], last[3]) and np.array_equal(first[6], last[3])


@pytest.mark.parametrize("context", [None, 0, 3])
def test_the_teacher_sees_the_object_in_its_own_frame(
    context: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With crops kept, and without: then they are cut for the teacher alone."""
    seen: list[np.ndarray] = []

    class Watching:
        def __init__(self, *_: Any) -> None: ...

        def load(self, runtime: Runtime) -> None: ...

        def look(self, crops: np.ndarray) -> Lesson:
            seen.append(crops)
            return Lesson(np.zeros((len(crops), 1000)), np.zeros((len(crops), 1280)))

    monkeypatch.setattr(objects, "CropTeacher", Watching)
    path = tmp_path / "b.csv"
    path.write_text(BOXES + "v,0,2,2,12,12,1,\nv,0,20,5,50,30,1,\nv,2,4,6,12,12,1,\n")
    spec = resolve_extractor(
        "objects",
        {"detector": "boxes", "crop_context": context, "teacher": "efficientnet_lite0"},
        weights={"detector": str(path), "teacher": "random:0"},
        cache=tmp_path / "cache",
    )
    made = spec.make()
    assert isinstance(made, Objects)
    made.load(Runtime())
    clips = clips_of(made, [0, 1, 2], 3)
    rows = made.extract(clips)["object"]
    wanted = [
        cut_crops(clip.frames[made.reach][None], rows.arrays["boxes"][own], 64)[:, 0]
        for clip, own in zip(clips, ([0, 1], [], [2]), strict=True)
    ]
    assert [len(each) for each in seen] == [2, 0, 1]
    for crops, right in zip(seen, wanted, strict=True):
        assert np.array_equal(crops, right) and crops.shape[1:] == (64, 64, 3)
    assert rows.arrays["teacher"].shape == (3, 1000)
    assert ("crops" in rows.arrays) == (context is not None)


def test_frames_that_are_found_together_keep_their_own_boxes_and_crops(tmp_path: Path) -> None:
    """A batch says what its clips say one by one, also where two detectors are joined."""
    text = "v,0,2,2,12,12,1,\nv,2,20,5,50,30,0.5,\nv,2,4,6,12,12,1,\nv,3,1,1,9,9,1,\n"
    settings = {"with_motion": True, "motion_reach": 2, "motion_samples": 3, "flow": "dis"}
    extractor = with_boxes(tmp_path / "b.csv", text, crop_context=1, **settings)
    clips = clips_of(extractor, [0, 1, 2, 3], 4)
    whole = extractor.extract(clips)
    single = [extractor.extract([clip]) for clip in clips]
    for axis, rows in whole.items():
        for name, values in rows.arrays.items():
            parts = [each[axis].arrays[name] for each in single]
            assert np.array_equal(values, np.concatenate(parts)), name
    assert whole["frame"].arrays["objects"].min() >= 0 and len(whole["object"]) >= 4


def test_slots_follow_the_settings() -> None:
    def slots(**settings: Any) -> list[str]:
        found = Objects.networks_for(ObjectsConfig.model_validate(settings))
        return [card.name for cards in found.values() for card in cards]

    assert slots(detector="motion") == []
    assert slots() == ["yolox_nano.coco"]
    both = slots(detector="yolov3", teacher="resnet50")
    assert both == ["yolov3.coco", "resnet50.torchvision"]
    assert slots(detector="motion", teacher="efficientnet_lite0") == ["efficientnet_lite0.imagenet"]


def test_vectors_have_slots_and_arrays_and_change_no_key_where_they_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = with_boxes(tmp_path / "b.csv", "v,0,2,2,12,12,1,\nv,0,20,2,32,22,1,\n")
    assert not {"reid", "pose"} & plain.recipe()["config"].keys()
    settings = {"detector": "boxes", "reid": "osnet", "pose": "keypointrcnn"}
    slots = Objects.networks_for(ObjectsConfig.model_validate(settings))
    assert {name: cards[0].name for name, cards in slots.items()} == {
        **{"detector": "boxes.file", "reid": "osnet_x1_0.torchreid"},
        "pose": "keypointrcnn.coco",
    }
    weights = {name: ResolvedWeights(slots[name][0], "random:0", None) for name in ("reid", "pose")}
    both = Objects(ObjectsConfig.model_validate(settings), weights={**plain.weights, **weights})
    assert both.recipe()["config"]["reid"] == "osnet" and key_of(both.recipe()) != key_of(
        plain.recipe()
    )
    monkeypatch.setattr(VectorNetwork, "load", lambda *_: None)
    monkeypatch.setattr(
        VectorNetwork, "look", lambda _, frame, boxes, n: np.full((len(boxes), n), frame.mean())
    )
    both.load(Runtime())
    clips = clips_of(both, [0, 1], 2)
    found = both.extract(clips)["object"].arrays
    assert found["reid"].shape == (2, 512) and found["pose"].shape == (2, 34)
    assert found["pose"][1, 5] == clips[0].frames[0].mean()
    roles = {array.name: array.role for array in both.arrays}
    assert roles["reid"] == "object/reid" and roles["pose"] == "object/pose"


def test_masks_are_the_foreground_in_each_box(tmp_path: Path) -> None:
    text = "v,2,28,18,42,32,1,\nv,2,0,0,8,8,0.5,\n"
    extractor = with_boxes(tmp_path / "b.csv", text, masks="motion", motion_reach=15)
    assert extractor.reach == 15
    frames = np.full((31, 40, 60, 3), 40, np.uint8)
    for t in range(31):
        frames[t, 20:30, min(50, 2 * t) : min(50, 2 * t) + 10] = 220
    clip = Clip(frames, np.arange(-13, 18), np.zeros(31), 2, 3, 0, "v.mp4")
    rows = extractor.extract([clip])
    runs = rows["run"]
    masks = decode_masks(runs.arrays["mask_runs"], 2, 40, 60)
    assert masks[0, 21:29, 31:39].all() and masks[0].sum() <= 13 * 13 and not masks[1].any()
    assert set(runs.frame_start.tolist()) == {2} and set(runs.frame_stop.tolist()) == {3}
    empty = with_boxes(tmp_path / "e.csv", "v,,,,,,,\n", masks="motion", motion_reach=15).extract(
        [clip]
    )
    assert empty["run"].arrays["mask_runs"].shape == (0, 3)


@pytest.mark.parametrize(
    ("settings", "devices"),
    [
        ({"detector": "boxes"}, {"cpu"}),  # a file has weights, and no network
        ({"detector": "boxes", "reid": "osnet"}, {"cuda:0"}),
        ({"detector": "motion", "teacher": "resnet50"}, {"cuda:0"}),
        ({"detector": "motion"}, {"cpu"}),
        ({"detector": "yolov3_tiny"}, {"cuda:0"}),
        ({"detector": "yolox"}, {"cpu"}),  # this ONNX Runtime has no CUDA
        ({"detector": "yolox", "with_motion": True, "pose": "keypointrcnn"}, {"cpu", "cuda:0"}),
    ],
)
def test_the_devices_that_networks_compute_on(
    settings: dict[str, Any], devices: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    made = resolve_extractor(
        "objects", settings, weights=random_weights("objects", settings) or None
    ).make()
    assert made.computed_on("cuda:0") == devices
    assert made.computed_on("cpu") == {"cpu"}


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"detector": "yolov3_tiny", "tile_scale": 8.0}, 64 * 3 * 2),  # enlarged, and as tiles
        ({"detector": "motion", "flow": "dis", "flow_scale": 8.0}, 64 * 2 * 5),  # grey and flow
        (
            {"detector": "motion", "motion_reach": 1, "motion_samples": 31},
            31 * 4 * 2,
        ),  # and stacked
    ],
)
def test_what_settings_make_of_a_frame_is_in_its_memory(
    settings: dict[str, Any], least: float
) -> None:
    """`least` is in bytes for each pixel of one frame, beside what its clip takes anyway."""
    weights = random_weights("objects", settings) or None
    spec = resolve_extractor("objects", settings, weights=weights)
    made = spec.make()
    assert isinstance(made, Objects)
    frames = 2 * made.reach + 1
    assert 3 * frames * (made.copies - made.clip_copies) >= least
    side = 1000
    more = clip_bytes([spec], side, side) - clip_bytes([resolve_extractor("null")], 1, 1)
    assert more >= least * side * side
