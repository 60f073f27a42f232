"""Content ids."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.footage import moving_picture
from vadpipe.extractors.footage import identity as identity_module
from vadpipe.extractors.footage.errors import ChangedFile, MissingFile, OverLimit, TouchedFile
from vadpipe.extractors.footage.guarded import guarded_probe
from vadpipe.extractors.footage.identity import (
    ALL_SAMPLED,
    HashMode,
    Identity,
    content_id,
    identify,
    still_probed,
)
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.stamp import stamp_of
from vadpipe.extractors.footage.video import ProbeRow


def test_content_ids_by_their_definition(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(5 * (1 << 20) + 12345)
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    mib, room = 1 << 20, len(data) - (2 << 20) - 65536
    starts = [mib + room * i // 15 for i in range(16)]
    assert starts[0] == mib and starts[-1] + 65536 == len(data) - mib  # the blocks span the middle
    sample = len(data).to_bytes(8, "little") + data[:mib] + data[-mib:]
    sample += b"".join(data[start : start + 65536] for start in starts)
    assert content_id(path) == "s1-" + hashlib.sha256(sample).hexdigest()[:40]
    assert content_id(path, "full") == "f1-" + hashlib.sha256(data).hexdigest()[:40]
    small = tmp_path / "b.bin"
    small.write_bytes(data[:1000])
    want = hashlib.sha256((1000).to_bytes(8, "little") + data[:1000]).hexdigest()[:40]
    assert content_id(small) == "s1-" + want


def test_every_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    data = bytearray(3 << 20)
    ids = set()
    for at in (0, 1 << 20, (3 << 20) // 2 + 7, (3 << 20) - 1):
        data[at] ^= 1
        path.write_bytes(data)
        ids.add(content_id(path))
    assert len(ids) == 4


def test_folder_ids_follow_content_and_order(tmp_path: Path) -> None:
    def folder(name: str, numbers: list[int], names: str = "{}.png") -> str:
        path = tmp_path / name
        path.mkdir()
        for place, number in enumerate(numbers):
            Image.fromarray(moving_picture(number)).save(path / names.format(place))
        return content_id(path)

    first = folder("a", [0, 1, 2])
    assert first == folder("b", [0, 1, 2], "frame_{:05d}.png")
    assert len({first, folder("c", [0, 2, 1]), folder("d", [0, 1]), folder("e", [0, 1, 2, 3])}) == 4
    assert content_id(tmp_path / "a", "full").startswith("f1-")


# --------------------------------------------------------------------------------- what proves it


def same_sample(path: Path, other: Path) -> None:
    """Two files of one sampled id that differ in a byte between the blocks."""
    data = bytearray(np.random.default_rng(0).bytes(ALL_SAMPLED + 200_000))
    path.write_bytes(data)
    data[(1 << 20) + (65 << 10)] ^= 1
    other.write_bytes(data)
    assert content_id(path) == content_id(other) and path.read_bytes() != other.read_bytes()


def test_the_whole_id_covers_every_byte(tmp_path: Path) -> None:
    a, b = tmp_path / "a.bin", tmp_path / "b.bin"
    same_sample(a, b)
    first, second = identify(a), identify(b)
    assert first.content_id == second.content_id and first.whole_id != second.whole_id
    assert first == Identity(content_id(a), content_id(a, "full"), stamp_of(a))
    full = identify(a, "full")
    assert full.content_id == full.whole_id == first.whole_id
    small = tmp_path / "c.bin"
    small.write_bytes(b"x" * 1000)
    assert identify(small).whole_id == content_id(small)


def test_the_whole_id_of_a_folder_covers_large_images_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for folder in (small, large):
        folder.mkdir()
        for number in range(2):
            (folder / f"{number}.png").write_bytes(b"%d" % number)
    found = identify(small)
    assert found.whole_id == found.content_id == content_id(small)
    assert found.stamp == stamp_of(small)
    same_sample(large / "1.png", tmp_path / "other")
    one = identify(large)
    assert one.whole_id == content_id(large, "full") != one.content_id
    shutil.copy(tmp_path / "other", large / "1.png")
    two = identify(large)
    assert two.content_id == one.content_id and two.whole_id != one.whole_id


def test_a_file_that_is_written_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 1000)
    real = identity_module._sampled_digest

    def writing(*arguments: object) -> str:
        with path.open("ab") as other:
            other.write(b"more")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(identity_module, "_sampled_digest", writing)
    with pytest.raises(TouchedFile, match="while it was read"):
        identify(path)


def row_of(path: Path) -> ProbeRow:
    found = identify(path)
    kind = "images" if path.is_dir() else "video"
    return ProbeRow(
        str(path), found.content_id, kind, 1, False, 25.0, 1, 1, 0, 0.04, "", "",
        whole_id=found.whole_id, stamp=found.stamp,
    )  # fmt: skip


def test_a_file_that_was_only_touched_is_still_the_one_that_was_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read, once; a file with the old stamp is not read at all."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 1000)
    row = row_of(path)
    read: list[Path] = []
    real = identity_module.identify
    monkeypatch.setattr(
        identity_module, "identify", lambda path, *rest: read.append(path) or real(path, *rest)
    )
    assert still_probed(row) is row and not read
    shutil.copy(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    for _ in range(2):
        now = still_probed(row)
        assert now.stamp == stamp_of(path) != row.stamp and now.whole_id == row.whole_id
    assert len(read) == 1


@pytest.mark.parametrize("size", [10, 1000])
def test_a_file_with_another_content_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 1000)
    os.utime(path, (1e9, 1e9))
    row = row_of(path)
    path.write_bytes(b"y" * size)
    os.utime(path, (1e9, 1e9))
    with pytest.raises(ChangedFile, match="changed since it was probed: run probe or extract"):
        still_probed(row)
    path.unlink()
    with pytest.raises(MissingFile):
        still_probed(row)


def test_frames_that_change_places_are_another_content(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
    row = row_of(tmp_path)
    (tmp_path / "1.png").rename(tmp_path / "x")
    (tmp_path / "2.png").rename(tmp_path / "1.png")
    (tmp_path / "x").rename(tmp_path / "2.png")
    with pytest.raises(ChangedFile):
        still_probed(row)
    for number in range(3):  # other names in the same order are the same video
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
        (tmp_path / f"{number}.png").rename(tmp_path / f"frame{number}.png")
    assert still_probed(row).stamp == stamp_of(tmp_path)


def test_a_file_that_was_hardly_written_is_refused_at_once(tmp_path: Path) -> None:
    """A terabyte of zeros in a few blocks would be read for an hour."""
    path = tmp_path / "a.mp4"
    for size, message in ((1 << 40, "sparse file.*--limit holes=N"), (1 << 41, "limit bytes=N")):
        with path.open("wb") as file:
            file.write(b"\0\0\0\x18ftypisom")
            file.truncate(size)
        with pytest.raises(OverLimit, match=message):
            guarded_probe(path)
        with pytest.raises(OverLimit, match=message):
            probe_video(path)


def test_images_that_were_hardly_written_are_refused_at_once(tmp_path: Path) -> None:
    for number in range(3):
        with (tmp_path / f"{number}.png").open("wb") as file:
            file.write(b"x" * 4096)
            file.truncate(10 << 20)
            file.seek((5 << 20) + number)
            file.write(b"y")
    with pytest.raises(OverLimit, match=r"sparse file.*--limit holes=N"):
        identify(tmp_path, limits=DecodeLimits(holes=25 << 20))
    with pytest.raises(OverLimit, match=r"31,457,280 bytes.*--limit bytes=N"):
        identify(tmp_path, limits=DecodeLimits(bytes=(30 << 20) - 1))


def test_holes_within_the_limit_are_read(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    with sparse.open("wb") as file:
        file.truncate(8 << 20)
    full.write_bytes(bytes(8 << 20))
    found = identify(sparse, limits=DecodeLimits(holes=8 << 20))
    assert (found.content_id, found.whole_id) == (content_id(full), content_id(full, "full"))
    with pytest.raises(OverLimit):
        identify(sparse, limits=DecodeLimits(holes=(8 << 20) - 1))
    identify(full, limits=DecodeLimits(holes=0))


@pytest.mark.parametrize(
    ("size", "hash_mode"), [(9000, "sampled"), (9000, "full"), (4 << 20, "sampled")]
)
def test_a_server_that_returns_a_byte_a_second_is_left_in_time(
    size: int, hash_mode: HashMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    class Slow(FileIO):
        def readinto(self, buffer: Any, /) -> int | None:
            now[0] += 1
            return super().readinto(memoryview(buffer)[:1])

    @contextmanager
    def slow_file(path: Path) -> Iterator[BufferedReader]:
        with BufferedReader(Slow(path)) as file:
            yield file

    (tmp_path / "a.mp4").write_bytes(bytes(size))
    monkeypatch.setattr(identity_module, "regular_file", slow_file)
    monkeypatch.setattr(identity_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with pytest.raises(OverLimit, match="hash_hours"):
        identify(tmp_path / "a.mp4", hash_mode, DecodeLimits(hash_hours=1))
    assert 3600 < now[0] < 3610


def test_a_file_that_cannot_be_read_in_time_is_refused(tmp_path: Path) -> None:
    """A file server may return a byte now and then, for ever."""
    (tmp_path / "a.mp4").write_bytes(bytes(4 << 20))
    short = DecodeLimits(hash_hours=1e-12)
    row = row_of(tmp_path / "a.mp4")
    with pytest.raises(OverLimit, match=r"a\.mp4: reading it .*--limit hash_hours=N"):
        identify(tmp_path / "a.mp4", limits=short)
    assert still_probed(row, short) is row  # not read
    os.utime(tmp_path / "a.mp4")
    with pytest.raises(OverLimit):
        still_probed(row, short)
