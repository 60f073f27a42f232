"""Content ids."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.footage import moving_picture
from vadpipe.extractors.footage.identity import content_id


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
