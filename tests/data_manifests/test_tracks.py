"""Track files: what is written is read, published forms, and refusals."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.tracks import (
    Tracks,
    manifest_tracks,
    read_tracks,
    read_video_tracks,
    write_tracks,
)

ROWS = np.array([[1, 3, 0, 0, 4, 5], [0, 7, 2.5, 1, 9, 8], [0, 6, 2, 1, 9, 8]])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tracks = {"b": Tracks.from_rows(ROWS), "a": Tracks.from_rows(ROWS[:1])}
    written = write_tracks(tmp_path / "tracks.csv", tracks)
    text = (tmp_path / "tracks.csv").read_text()
    assert text.splitlines()[:3] == [
        "video_id,track_id,frame,x0,y0,x1,y1",
        "a,1,3,0,0,4,5",
        "b,0,6,2,1,9,8",  # sorted by track and frame
    ]
    assert written.sha256 == hashlib.sha256(text.encode()).hexdigest()
    found = read_tracks(tmp_path / "tracks.csv")
    assert found.sha256 == written.sha256
    assert set(found.tracks) == {"a", "b"}
    np.testing.assert_array_equal(found.tracks["b"].box, tracks["b"].box)
    assert (found.tracks["b"].n_tracks, len(found.tracks["b"])) == (2, 3)
    np.testing.assert_array_equal(found.tracks["b"].between(3, 7).frame, [6, 3])


def test_a_published_file_counts_its_last_pixels_in(tmp_path: Path) -> None:
    (tmp_path / "01_0014.txt").write_text("0,5,10,20,30,40\n0,6,11,20,31,40\n")
    (tmp_path / "01_0015.txt").write_text("0 5 10 20 10 20")  # one row, blanks, one pixel
    (tmp_path / "01_0016.txt").write_text("")
    (tmp_path / "ours.csv").write_text("track_id,frame,x0,y0,x1,y1\n0,5,10,20,31,41\n")
    found = read_tracks(tmp_path)
    assert found.tracks["01_0014"].box.tolist() == [[10, 20, 31, 41], [11, 20, 32, 41]]
    assert found.tracks["01_0015"].box.tolist() == [[10, 20, 11, 21]]
    assert len(found.tracks["01_0016"]) == 0
    assert found.tracks["ours"].box.tolist() == [[10, 20, 31, 41]]
    single = write_tracks(tmp_path / "all.csv", found.tracks)
    assert single.sha256 == found.sha256  # whatever form it was in


def test_tracks_that_a_manifest_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("track_id,frame,x0,y0,x1,y1\n0,5,10,20,31,41\n")
    records = [
        VideoRecord(video_id=name, path=None, split="test", tracks=tracks)
        for name, tracks in (("a", "t.csv"), ("b", None))
    ]
    manifest = Manifest(dataset="x", root=str(tmp_path), records=tuple(records))
    found = manifest_tracks(manifest, records)
    assert found is not None and list(found.tracks) == ["a"]
    assert manifest_tracks(manifest, records[1:]) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0,5,10,20,30\n", "5 values"),
        ("0,5,10,20,x,40\n", "could not convert"),
        ("0,5,10,20,8,40\n", "empty"),
        ("0,5.5,10,20,30,40\n", "whole numbers"),
        ("-1,5,10,20,30,40\n", "whole numbers"),
        ("0,5,10,nan,30,40\n", "not finite"),
        ("track_id,frame,x,y,w,h\n0,5,1,1,2,2\n", "the header is"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "01.txt"
    path.write_text(text)
    with pytest.raises(ManifestError, match=rf"01\.txt.*{reason}"):
        read_video_tracks(path)


def test_bad_collections_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        read_tracks(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="holds no track file"):
        read_tracks(tmp_path)
    path = tmp_path / "all.csv"
    path.write_text("0,5,10,20,30,40\n")
    with pytest.raises(ManifestError, match="header"):
        read_tracks(path)
    path.write_text("video_id,track_id,frame,x0,y0,x1,y1\n../a,0,5,10,20,30,40\n")
    with pytest.raises(ManifestError, match=r"\.\./a"):
        read_tracks(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_tracks(path)
    with pytest.raises(ManifestError, match=r"a \.csv file"):
        write_tracks(tmp_path / "t.parquet", {})


def test_places_that_may_be_corners_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a_gt.txt"
    path.write_text("001.jpg 0 20 30 40 60\n002.jpg 0 19 30 40 60\n")
    assert read_video_tracks(path).box.tolist() == [[0, 0, 40, 60], [-1, 0, 39, 60]]
    assert not caplog.text
    path.write_text("001.jpg 0 20 30 40 60\n002.jpg 0 2 30 40 60\n")
    read_video_tracks(path)
    assert "1 of 2 boxes begin outside of the picture" in caplog.text


def test_boxes_by_their_centre_are_as_large_as_the_file_says(tmp_path: Path) -> None:
    """Convention of Street Scene: from 0, the whole extent, x1 and y1 not included, no rounding."""
    path = tmp_path / "Test001_gt.txt"
    path.write_text("Test/001.jpg 3 10.5 20.5 21 41\n002.jpg 3 640 360 1280 720\n")
    found = read_video_tracks(path)
    assert found.frame.tolist() == [0, 1] and found.track_id.tolist() == [3, 3]
    odd, whole = found.box.tolist()
    assert odd == [0, 0, 21, 41]  # an odd size, from the first pixel on
    assert whole == [0, 0, 1280, 720]  # the picture itself, and not a pixel more
