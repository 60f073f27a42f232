"""Folders of images."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.footage import moving_picture
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.errors import (
    DecodeError,
    MissingFile,
    MixedSizes,
    NoFrames,
    UnreadableImage,
    UnsafeLink,
)
from vadpipe.extractors.footage.guarded import guarded_probe
from vadpipe.extractors.footage.identity import content_id
from vadpipe.extractors.footage.image_folder import list_images
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_video


def image_folder(path: Path, numbers: list[int], pattern: str = "img{}.png") -> Path:
    path.mkdir()
    for number in numbers:
        Image.fromarray(moving_picture(number)).save(path / pattern.format(number))
    return path


def test_images_are_a_video(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", list(range(1, 21)))
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "sub.png").mkdir()
    row = probe_video(folder, image_fps=10)
    assert (row.kind, row.container, row.codec, row.flags) == ("images", "images", "png", ())
    assert (row.n_frames, row.height, row.width, row.fps, row.duration) == (20, 64, 96, 10, 2.0)
    frames = list(read_frames(row, 4, 12))
    assert [f.index for f in frames] == list(range(4, 12))
    assert [f.pts for f in frames] == [i / 10 for i in range(4, 12)]
    # Natural order: img10 comes after img9.
    assert all(np.array_equal(f.image, moving_picture(f.index + 1)) for f in frames)
    reader = read_frames(row, 18)
    assert len(list(reader)) == 2 and reader.at_end
    assert probe_video(folder, decode=True).decoded
    (folder / "img3.png").unlink()
    with pytest.raises(DecodeError, match="probe"):
        list(read_frames(row))


def test_an_image_that_is_a_link_to_nowhere_is_missed(tmp_path: Path) -> None:
    """Without it, all later frames would have other numbers. Other entries do not matter."""
    folder = image_folder(tmp_path / "v", [1, 2])
    (folder / "notes.txt").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    assert len(list_images(folder)) == 2
    for target in ("nowhere.png", "img3.png"):
        (folder / "img3.png").unlink(missing_ok=True)
        (folder / "img3.png").symlink_to(target)
        with pytest.raises(MissingFile, match=r"img3\.png: a link that leads nowhere"):
            list_images(folder)


def test_gaps_in_the_numbers(tmp_path: Path) -> None:
    assert probe_video(image_folder(tmp_path / "a", [1, 2, 4])).flags == ("gaps", "short")
    names = image_folder(tmp_path / "b", [0, 1], "{}-of-2.png")
    assert "gaps" in probe_video(names).flags  # the last number of a name counts
    unnumbered = image_folder(tmp_path / "c", [1])
    (unnumbered / "img1.png").rename(unnumbered / "only.png")
    assert probe_video(unnumbered).flags == ("short",)


def test_the_order_is_part_of_the_content_id(tmp_path: Path) -> None:
    """The id that version 0.1.0 gave: case and leading zeros do not decide."""
    folder = tmp_path / "v"
    folder.mkdir()
    order = ["1.png", "a2.png", "B1.png", "img1_a.png", "img01_b.png", "img10.png"]
    for name in reversed(order):
        (folder / name).write_text(name)
    assert [path.name for path in list_images(folder)] == order
    assert content_id(folder) == "s1-65e88087f06c316828baf49a89db0b19c6aa1909"


def test_images_of_two_sizes(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", [1, 2])
    Image.fromarray(moving_picture(3, 32, 32)).save(folder / "img3.png")
    with pytest.raises(MixedSizes, match=r"img3\.png"):
        probe_video(folder)


def test_unreadable_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", [1, 2, 3])
    whole = (folder / "img2.png").read_bytes()
    (folder / "img2.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"img2\.png"):
        probe_video(folder)
    (folder / "img2.png").write_bytes(whole[: len(whole) // 2])
    row = probe_video(folder)  # the header is whole
    with pytest.raises(UnreadableImage, match=r"img2\.png"):
        list(read_frames(row))
    with pytest.raises(UnreadableImage, match=r"img2\.png"):
        probe_video(folder, decode=True)


def test_offsets_that_are_fractions(tmp_path: Path) -> None:
    """Tag 273 says where the pixels are; a type of 5 makes it a quotient."""
    data = bytearray(as_file(Image.fromarray(moving_picture(0)), "TIFF"))
    (at,) = (i for i in range(len(data) - 12) if data[i : i + 4] == b"\x11\x01\x04\x00")
    data[at + 2] = 5
    (tmp_path / "0.tif").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"0\.tif"):
        list(read_frames(probe_video(tmp_path)))


def test_a_chunk_that_claims_gigabytes_is_no_want_of_memory(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", [1, 2])
    data = bytearray((folder / "img2.png").read_bytes())
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = b"\x7f\xff\xff\xff"
    (folder / "img2.png").write_bytes(data)
    limits = DecodeLimits(memory=1 << 28)
    with pytest.raises(UnreadableImage, match=r"img2\.png: a size in it is wrong"):
        guarded_probe(folder, decode=True, limits=limits)


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = probe_video(image_folder(tmp_path / "v", [1, 2]))
    (tmp_path / "v").rename(tmp_path / "w")
    with pytest.raises(MissingFile, match="/v: cannot be read: No such file"):
        list(read_frames(row))

    def forbidden(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(MissingFile, match="/w: cannot be read: Permission denied"):
        probe_video(tmp_path / "w")


def test_folders_without_images_and_links(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoFrames):
        probe_video(tmp_path / "empty")
    folder = image_folder(tmp_path / "v", [1, 2])
    (folder / "img3.png").symlink_to(folder / "img1.png")
    assert probe_video(folder).n_frames == 3
    (tmp_path / "linked").symlink_to(folder)
    assert len(list_images(tmp_path / "linked")) == 3
    other = image_folder(tmp_path / "w", [9])
    (folder / "img4.png").symlink_to(other / "img9.png")
    with pytest.raises(UnsafeLink):
        probe_video(folder)


def as_file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pixel_formats_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10
    eight = (grey >> 8).astype(np.uint8)
    rgb = moving_picture(0)
    palette = Image.fromarray(rgb).quantize(16)
    alpha = Image.fromarray(np.dstack([rgb, eight]), "RGBA")
    stencil = Image.fromarray(eight > 100)
    cases = [
        (as_file(Image.fromarray(grey), "PNG"), ".png", np.dstack([eight] * 3)),
        (as_file(Image.fromarray(grey), "TIFF"), ".tif", np.dstack([eight] * 3)),
        (as_file(Image.fromarray(eight), "BMP"), ".bmp", np.dstack([eight] * 3)),
        (as_file(palette, "PNG"), ".png", np.array(palette.convert("RGB"))),
        (as_file(alpha, "PNG"), ".png", rgb),
        (as_file(stencil, "PNG"), ".png", np.dstack([(eight > 100) * np.uint8(255)] * 3)),
        (as_file(Image.fromarray(rgb), "TIFF"), ".TIFF", rgb),
    ]
    for place, (data, suffix, want) in enumerate(cases):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / f"0{suffix}").write_bytes(data)
        (frame,) = read_frames(probe_video(folder))
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        np.testing.assert_array_equal(frame.image, want, err_msg=str(place))


def test_numbers_that_are_no_pixels(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        values = Image.fromarray(np.full((8, 8), 70_000, kind))
        (folder / "0.tif").write_bytes(as_file(values, "TIFF"))
        with pytest.raises(UnreadableImage, match="no picture"):
            list(read_frames(probe_video(folder)))


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    for decode_all in (False, True):
        folder = tmp_path / str(decode_all)
        folder.mkdir()
        data = as_file(Image.fromarray(moving_picture(0)), "PNG", exif=exif)
        (folder / "0.png").write_bytes(data)
        row = probe_video(folder, decode=decode_all)
        assert (row.height, row.width) == (96, 64)
        (frame,) = read_frames(row)
        np.testing.assert_array_equal(frame.image, np.rot90(moving_picture(0), -1))
