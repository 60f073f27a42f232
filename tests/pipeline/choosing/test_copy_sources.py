"""What fast copies were made of: read as written, and what is no copy of a clip is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.moving_objects import moving
from vadpipe.data_manifests.record import Manifest, ManifestError
from vadpipe.detectors.base import Bag, Track
from vadpipe.pipeline.choosing.copy_sources import (
    SOURCES,
    CopySource,
    check_copy,
    read_sources,
    write_sources,
)

SOURCE = CopySource(content_id="s1-0", frames=(4, 11), speed=2)
CLIP = moving(1, frames=12, each=3)
COPY = replace(moving(2, frames=4, each=3), video_id="a.x2", n_frames=4)


def check(copy: Bag = COPY, source: CopySource | None = SOURCE, **change: Any) -> None:
    sources = {} if source is None else {"a.x2": source}
    check_copy(
        copy, sources, *{"content": "s1-0", "clip": CLIP, "frames": (4, 11), **change}.values()
    )


def test_a_copy_is_of_the_same_footage() -> None:
    check()
    with pytest.raises(ManifestError, match="does not list it"):
        check(source=None)
    with pytest.raises(ManifestError, match="made of another file"):
        check(content="s1-1")
    with pytest.raises(ManifestError, match=r"made of the frames \(4, 11\), the clip has \(0, 7\)"):
        check(frames=(0, 7))
    with pytest.raises(ManifestError, match=r"it has 5 frames, and one in 2 of .* are 4"):
        check(replace(COPY, n_frames=5))
    sizes = COPY.tracks["frame/size"]
    larger = Track(sizes.rows() * 2, sizes.frame_start, sizes.frame_stop)
    with pytest.raises(ManifestError, match="its frames are"):
        check(replace(COPY, tracks={**COPY.tracks, "frame/size": larger}))
    np.testing.assert_array_equal(sizes.rows()[0], CLIP.tracks["frame/size"].rows()[0])


def test_the_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    copies = Manifest(dataset="d", root=str(tmp_path), records=())
    with pytest.raises(ManifestError, match=r"does not exist, .* make the copies again"):
        read_sources(copies)
    write_sources({"a.x2": SOURCE}, tmp_path)
    assert read_sources(copies) == {"a.x2": SOURCE}


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"content_id": "x", "speed": 2}}'])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SOURCES).write_text(text)
    copies = Manifest(dataset="d", root=str(tmp_path), records=())
    with pytest.raises(ManifestError, match=r"cannot be used .*make the copies again"):
        read_sources(copies)
