"""Sweeps EXTRACTORS and DETECTORS: what every one of them has promised."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests import plugins, pretrained_detector, two_networks
from tests.random_weights import random_start, random_weights
from tests.synthetic import SIZE
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import Manifest
from vadpipe.data_manifests.synthetic import write_scene
from vadpipe.detectors.base import DetectorError, Supervision
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import ClipAssembler, Span
from vadpipe.extractors.device.inference import OnDevice
from vadpipe.extractors.footage.video import Frame
from vadpipe.extractors.network_extractor import NetworksExtractor
from vadpipe.pipeline.bags import StoreBags
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.models import ModelFolder, make_detector
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.registry import DETECTORS, EXTRACTORS
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.keys import canonical_json
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.train import train_detector

pytestmark = pytest.mark.usefixtures("one_thread")

SOAK = os.environ.get("VADPIPE_SOAK") == "1"
SETTINGS: dict[str, dict[str, Any]] = {
    "inception_i3d": {"resize": 64, "clip_length": 8, "stride": 8},
    "i3d_r50": {"resize": 36, "crop_size": 32, "clip_length": 8, "stride": 8},
    "i3d_r50_ptv": {"resize": 32, "crops": 1, "crop_size": None, "clip_length": 8, "stride": 8},
    "video_swin": {"resize": 64, "crop_size": None, "clip_length": 8, "stride": 8},
    "patch_cubes": {
        "frame_size": [64, 96],
        "patch_sizes": [[32, 48], [64, 96]],
        "clip_length": 8,
        "stride": 8,
    },
    "vifi_clip": {"stride": 12},
    "frames": {"size": [16, 32]},
    "flow": {"size": [16, 32]},
    "perturb": {"size": [16, 32], "inpainter": "telea", "keep_mask": True, "stride": 2},
    "objects": {
        **{"detector": "motion", "stride": 8, "crop_context": 1, "crop_size": 16},
        **{"motion_area": 100},  # some figures are left out, so frames have different numbers
        **{"teacher": "efficientnet_lite0", "teacher_size": 32, "appearance": True},
        **{"masks": "motion", "flow": "dis"},
    },
    "scene_checks": {"stride": 4},
    "null": {"clip_length": 8, "stride": 4, "before": 3, "after": 2},
    two_networks.NAME: {},
    "cells": {"rows": 3, "columns": 4, "threshold": 1.0},  # the example plug-in, ragged
}
NAMES = list(SETTINGS)

# Narrow features are averaged from the null extractor's, to be fitted in a moment.
DETECTOR_SETTINGS: dict[str, dict[str, Any]] = {
    "knn": {},
    "motion_energy": {},
    "background": {"spread": True},
    "flow_peak": {"cells": [4, 4]},
    "tampering": {},
    "attribute_density": {"attributes": ["place", "size", "stay"]},
    "speed_peak": {},
    "ssmtl": {
        **{"architecture": "shallow+narrow", "tasks": ["arrow", "middle"]},
        **{"steps": 2, "batch_size": 4, "t": 1, "validation": 0.4},
    },
    "msmg": {
        **{"architecture": "shallow+narrow", "length": 6, "steps": 2, "batch_size": 2},
        **{"validation_pairs": 2, "cells": [2, 2], "stride": 4},
    },
    "mil_ranking": {"steps": 3},
    "rtfm": {"steps": 3},
    "ssrl": {"steps": 2, "scales": []},
    "pseudo_anomaly": {
        **{"eta": [1, 0, 0], "spatial": ["patch"], "width": 3, "steps": 2, "length": 8},
        **{"scored_frame": 4, "patches": {"least": 2}, "cells": [4, 4]},
    },
    pretrained_detector.NAME: {"critic": True},
    "restless": {},  # the example plug-in, with maps and regions
}
FEATURES = {  # of all others: null
    "restless": "cells",
    "motion_energy": "frames",
    "background": "frames",
    "ssmtl": "objects",
    "msmg": "frames",
    "flow_peak": "flow",
    "tampering": "scene_checks",
    "pseudo_anomaly": "frames",
    "attribute_density": "objects",
    "speed_peak": "objects",
}


@pytest.fixture(autouse=True, scope="module")
def with_the_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        plugins.register_example(patch, tmp_path_factory.mktemp("example"))
        yield


@pytest.fixture(autouse=True)
def with_test_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    two_networks.register(monkeypatch)
    pretrained_detector.register(monkeypatch)


def spec_of(name: str) -> ExtractorSpec:
    weights = random_weights(name, SETTINGS[name])
    return resolve_extractor(name, SETTINGS[name], weights=weights, precision="fp32")


def run(manifest: Manifest, cache: Path, name: str, **options: Any) -> tuple[FeatureStore, Probed]:
    probed = probe_files(manifest, cache)
    assert not probed.failures
    engine = Engine(threads=1, **{"batch_size": 8, **options})
    done = extract_features(
        manifest, probed, [spec_of(name)], cache, engine=engine, max_bytes=10**9
    )
    assert not done.failures
    return done.stores[0], probed


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One video of 32 frames: four clips of eight, with networks the dear part of this file."""
    root = tmp_path_factory.mktemp("video") / "scene"
    write_scene(root, size=SIZE, n_train=1, n_test=1, frames=40 if SOAK else 32, fps=25)
    manifest = synthetic.build(root)
    return manifest.model_copy(update={"records": manifest.records[:1]})


Whole = Callable[[str], tuple[FeatureStore, Probed]]


@pytest.fixture(scope="module")
def whole(video: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What an extractor makes of the video in one span, clip by clip; made once."""
    made: dict[str, tuple[FeatureStore, Probed]] = {}

    def features(name: str) -> tuple[FeatureStore, Probed]:
        if name not in made:
            made[name] = run(video, tmp_path_factory.mktemp("whole"), name, batch_size=1)
        return made[name]

    return features


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_as_promised(name: str, whole: Whole) -> None:
    store, probed = whole(name)
    extractor = spec_of(name).make()
    assert extractor.name == name
    assert canonical_json(spec_of(name).recipe()) == canonical_json(store.recipe)
    (row,) = probed.rows.values()
    features = store.read(row.content_id)
    rule = extractor.clip_rule
    assert features.frame_start.tolist() == [
        s
        for s in range(0, row.n_frames, rule.stride)
        if s == 0 or s - rule.stride + rule.length < row.n_frames
    ]
    for spec in extractor.arrays:
        array = features.arrays[spec.name]
        assert array.shape == (len(features.times[spec.axis].frame_start), *spec.shape)
        assert array.dtype == np.dtype(spec.dtype)
        assert np.ptp(np.asarray(array[:], np.float64)) > 0, "constant output"
    assert store.verify() == []


@pytest.mark.parametrize("name", NAMES)
def test_batch_and_span_size_change_nothing(
    name: str, video: Manifest, whole: Whole, tmp_path: Path
) -> None:
    """Span size changes no value at equal batches; the batch size only the last bits."""
    one_span, probed = whole(name)
    (row,) = probed.rows.values()
    expected = one_span.read(row.content_id)
    changes: list[tuple[dict[str, Any], bool]] = [
        ({"batch_size": 1, "span_frames": 13}, True),  # clips do not begin where spans do
        ({"batch_size": 3}, False),
    ]
    if SOAK:
        changes.append(({"batch_size": 1, "span_frames": 16}, True))
    for i, (options, exact) in enumerate(changes):
        store, _ = run(video, tmp_path / str(i), name, **options)
        assert store.key == one_span.key
        got = store.read(row.content_id)
        for axis, times in expected.times.items():
            assert np.array_equal(got.times[axis].frame_start, times.frame_start)
            assert np.array_equal(got.times[axis].frame_stop, times.frame_stop)
        for spec in spec_of(name).make().arrays:
            a = np.asarray(got.arrays[spec.name][:], np.float64)
            b = np.asarray(expected.arrays[spec.name][:], np.float64)
            if exact:
                assert np.array_equal(a, b)
            else:  # half a unit of float16 storage on top of fp32's last bits
                tolerance = 2e-3 if spec.dtype == "float16" else 1e-5
                assert np.abs(a - b).max() <= tolerance * np.sqrt((b**2).mean())


# Those that read pictures as they are; what others say of their first resize has to hold.
AS_THEY_ARE = {"objects", "null", "cells", two_networks.NAME}


@pytest.mark.parametrize("name", NAMES)
def test_pictures_may_come_resized_from_the_decoder(name: str) -> None:
    """At the size that it resizes to first: the same reaches its network, or its rows."""
    frames = np.random.default_rng(0).integers(0, 256, (13, 90, 130, 3), np.uint8)
    resize = spec_of(name).resize_first(90, 130)
    assert (resize is None) == (name in AS_THEY_ARE)
    if resize is None:
        return
    assert resize == spec_of(name).resize_first(resize.height, resize.width)
    whole, small = (
        rows_and_pixels(name, each) for each in (frames, np.stack([*map(resize, frames)]))
    )
    for got, expected in zip(small, whole, strict=True):
        np.testing.assert_array_equal(got, expected)


def rows_and_pixels(name: str, frames: np.ndarray) -> list[Any]:
    """What an extractor computes of all clips, and what reaches its network, which does little."""
    extractor = spec_of(name).make()
    network = Averaging(getattr(extractor, "backbone", None))
    if isinstance(extractor, NetworksExtractor) and extractor.weights:
        extractor._loaded = dict.fromkeys(extractor.weights, network)
        extractor._place = OnDevice(Runtime("cpu", 1))
    else:
        extractor.load(Runtime("cpu", 1))
    assembler = ClipAssembler(extractor.clip_rule, Span("x", 0, len(frames), True))
    clips = [c for i, image in enumerate(frames) for c in assembler.push(Frame(i, i / 25, image))]
    rows = extractor.extract(clips + assembler.finish())
    arrays = [values for axis in rows.values() for values in axis.arrays.values()]
    assert any(np.ptp(values.astype(np.float64)) > 0 for values in arrays)
    return arrays + network.seen


class Averaging:
    """Stands for a network: every feature is the mean of all pixels."""

    def __init__(self, backbone: Any) -> None:
        self._features = 512 if backbone is None else backbone.features
        self.seen: list[np.ndarray] = []

    def features(self, videos: torch.Tensor) -> torch.Tensor:
        self.seen.append(videos.numpy().copy())
        return videos.float().flatten(1).mean(1, keepdim=True).expand(-1, self._features)


def test_every_name_has_settings_here() -> None:
    assert SETTINGS.keys() >= set(EXTRACTORS) and DETECTOR_SETTINGS.keys() >= set(DETECTORS)


NETWORKS = [name for name in EXTRACTORS if EXTRACTORS[name].networks] + [two_networks.NAME]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_gives_the_features_of_a_cpu(name: str, scene: Manifest, tmp_path: Path) -> None:
    """Precision, batches and streams on CUDA: fp32 by value, the others by direction."""
    manifest = scene.model_copy(update={"records": scene.records[:2]})
    probed = probe_files(manifest, tmp_path)

    def features(device: str, precision: Any, **options: Any) -> list[np.ndarray]:
        engine = Engine(device=device, **options)
        weights = random_weights(name, SETTINGS[name])
        settings = dict(SETTINGS[name])
        if "dtype" in EXTRACTORS[name].Config.model_fields:
            settings["dtype"] = "float32"
        spec = resolve_extractor(
            name, settings, weights=weights, precision=precision, engine=engine
        )
        cache = tmp_path / f"{device}-{precision}-{len(list(tmp_path.iterdir()))}"
        done = extract_features(manifest, probed, [spec], cache, engine=engine, max_bytes=10**9)
        assert not done.failures
        return [
            np.asarray(done.stores[0].read(row.content_id).arrays[array.name][:], np.float64)
            for row in probed.rows.values()
            for array in spec.make().arrays
        ]

    expected = features("cpu", "fp32", batch_size=8)
    for precision, tolerance, cosine in (
        ("fp32", 5e-3, 0.99999),
        ("bf16", 0.2, 0.999),
        ("fp16", 0.2, 0.999),
    ):
        for options in ({"batch_size": 8}, {"batch_size": 1}, {}, {"streams": 1}):
            for found, wanted in zip(
                features("cuda:0", precision, **options), expected, strict=True
            ):
                a, b = found.reshape(-1, found.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
                assert np.abs(a - b).max() <= tolerance * np.sqrt((b**2).mean())
                norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
                assert ((a * b).sum(1) / norms).min() >= cosine


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_valid_and_have_keys_of_their_own(name: str) -> None:
    kind = EXTRACTORS[name]
    keys = set()
    for preset in ("", *kind.presets):
        chosen = f"{name}:{preset}".rstrip(":")
        spec = resolve_extractor(chosen, weights=random_weights(chosen), precision="fp32")
        keys.add(canonical_json(spec.make().recipe()))
    assert len(keys) == 1 + len(kind.presets)


@pytest.mark.parametrize("name", DETECTOR_SETTINGS)
def test_detectors_fit_save_load_and_repeat(name: str, scene: Manifest, tmp_path: Path) -> None:
    settings = DETECTOR_SETTINGS[name]
    detector = make_detector(name, settings)
    records = list(scene.select(split="train").records)
    if detector.supervision is Supervision.WEAK:  # both classes, and normal ones to hold back
        records = [r.model_copy(update={"label": int(i == 0)}) for i, r in enumerate(scene.records)]
        records = [r.model_copy(update={"split": "train", "anomalies": None}) for r in records]
    manifest = scene.model_copy(update={"records": tuple(records)})
    store, probed = run(manifest, tmp_path, FEATURES.get(name, "null"))
    weights = random_start(name, settings)
    options: dict[str, Any] = {"settings": settings, "weights": weights}
    fit = partial(train_detector, name, manifest, probed, tmp_path, **options)
    first = fit(seed=3)
    assert first.fresh
    assert not fit(seed=3).fresh
    other_seed = fit(seed=4)
    assert (other_seed.folder != first.folder) == other_seed.draws, (
        "one model for all seeds, or not"
    )
    stores = dict.fromkeys(detector.needs, store)
    bags = StoreBags(records, probed.rows, stores, labels=False)
    loaded, card = ModelFolder(first.folder).load()
    before = [loaded.score(bag) for bag in bags]
    again = fit(seed=3, force=True)
    reloaded, _ = ModelFolder(again.folder).load()
    for bag, scores in zip(bags, before, strict=True):
        other = reloaded.score(bag)
        assert np.array_equal(scores.columns["score"], other.columns["score"])
        assert len(scores.frame_start) == len(scores.columns["score"])
    assert card["features"][detector.needs[0]] == store.recipe
    refuses_other_arrays(ModelFolder(first.folder))


def refuses_other_arrays(model: ModelFolder) -> None:
    """Arrays of another type or shape, or with NaN, never make scores.

    The card is as of version 0.1, which has no hash that would tell.
    """
    card, weights = model.path / "config.json", model.path / "weights.safetensors"
    values = json.loads(card.read_text())
    del values["weights_sha256"]
    card.write_text(json.dumps(values))
    model.load()
    good = load_file(weights)
    for name, value in good.items():
        others = [value.astype(np.uint8 if value.dtype != np.uint8 else np.int64), value[None]]
        if value.dtype.kind == "f":
            others += [np.full_like(value, np.nan), np.full_like(value, np.inf)]
        for other in others:
            save_file({**good, name: other}, weights)
            with pytest.raises(DetectorError, match=r"weights\.safetensors is damaged"):
                model.load()
    save_file({**good, "another": np.ones(2, np.float32)}, weights)
    with pytest.raises(DetectorError, match=r"train the model again \(vadpipe train --force"):
        model.load()
