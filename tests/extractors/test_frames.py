"""Kept pixels: those of Pillow, and only if the user has allowed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.rows import arrays_of
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.frames import Frames, FramesConfig
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("scene") / "scene"
    write_tiny_scene(root, n_train=1, n_test=1)
    return synthetic.build(root)


def clip(seed: int) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (1, 48, 64, 3), dtype=np.uint8)
    return Clip(frames, np.array([seed]), np.array([seed / 25]), seed, seed + 1)


def test_pictures_are_those_of_pillow() -> None:
    clips = [clip(seed) for seed in range(3)]
    found = arrays_of(Frames(FramesConfig(size=(20, 30))), clips)["frames"]
    assert isinstance(found, np.ndarray) and found.shape == (3, 20, 30, 3)
    for one, picture in zip(clips, found, strict=True):
        image = Image.fromarray(one.frames[0]).resize((30, 20), Image.Resampling.BILINEAR)
        assert np.abs(picture.astype(int) - np.asarray(image)).max() <= 1


def test_every_frame_has_a_row_at_its_place(scene: Manifest, tmp_path: Path) -> None:
    probed = probe_files(scene, tmp_path)
    spec = resolve_extractor("frames", {"size": [64, 96]})
    done = extract_features(scene, probed, [spec], tmp_path, max_bytes=10**9)
    for row in probed.rows.values():
        features = done.stores[0].read(row.content_id)
        assert features.frame_start.tolist() == list(range(row.n_frames))
        pictures = features.arrays["frames"]
        for frame in read_frames(row):
            assert np.array_equal(pictures[frame.index : frame.index + 1][0], frame.image)


def test_pixels_are_kept_only_where_they_are_allowed(scene: Manifest, tmp_path: Path) -> None:
    probed = probe_files(scene, tmp_path)
    spec = resolve_extractor("frames", {"size": [64, 96]})
    size = 2 * 40 * (64 * 96 * 3 + 16)
    with pytest.raises(ExtractorError, match=f"keeps pixels: about {size:,} bytes.*{size}"):
        extract_features(scene, probed, [spec], tmp_path)
    with pytest.raises(ExtractorError, match="more than --max-bytes"):
        extract_features(scene, probed, [spec], tmp_path, max_bytes=size - 1)
    assert not list(tmp_path.rglob("*.h5"))
    assert extract_features(scene, probed, [spec], tmp_path, max_bytes=size).written == 2
    assert not extract_features(scene, probed, [spec], tmp_path).failures, "nothing is left to keep"
