"""Folders of images, each of which is one video."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ...data_manifests.natural_order import natural_key
from .errors import DecodeError, MissingFile, MixedSizes, NoFrames, UnreadableImage, UnsafeLink
from .file_checks import FileChecks
from .resizing import Resize, placed
from .sparse import Wanted
from .video import SHORT, Frame, Hooks, ProbeRow, Reading, has_room

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
EXIF_ORIENTATION = 0x0112
PIXEL_BYTES = 20  # of memory a pixel at most, while an image becomes a frame

# What Pillow raises for a broken file, on purpose or not (offsets in a TIFF may be fractions).
_BROKEN = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError,
    struct.error,
)  # fmt: skip


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order (`img2` before `img10`).

    Hidden files, other files and subfolders are left out.

    Raises:
        MissingFile: the folder is gone, or may not be read; an image is a link that leads nowhere.
        UnsafeLink: an image is a link that leads out of the folder.
        NoFrames: there is no image.
    """
    folder = Path(folder)
    try:
        images = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not path.name.startswith(".")
            and _is_image_file(path)
        ]
    except OSError as error:
        raise MissingFile(f"{folder}: cannot be read: {error.strerror}") from error
    if not images:
        raise NoFrames(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in the folder")
    root = os.path.realpath(folder)
    for path in images:
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            raise UnsafeLink(f"{path}: a link that leads out of the folder; copy the image instead")
    return sorted(images, key=lambda path: natural_key(path.name))


def _is_image_file(path: Path) -> bool:
    if path.is_symlink() and not path.exists():  # without it, all later frames would change place
        raise MissingFile(f"{path}: a link that leads nowhere or in a circle; mend or delete it")
    return path.is_file()


def _has_gaps(images: list[Path]) -> bool:
    """True where the last numbers in the names do not count up by one."""
    found = [re.findall(r"[0-9]+", path.stem) for path in images]
    if not all(found):
        return False
    numbers = [int(digits[-1]) for digits in found]
    return any(after != before + 1 for before, after in pairwise(numbers))


def probe_images(
    folder: Path,
    identity: str,
    decode: bool,
    fps: float,
    limits: FileChecks,
    hooks: Hooks,
) -> ProbeRow:
    """Probe a folder whose content id is known: the headers of its images, or all pixels.

    Raises:
        DecodeError: a subclass that names what is wrong with the folder or an image.
        ValueError: `fps` is not positive.
    """
    if not fps > 0:
        raise ValueError(f"image_fps must be positive, not {fps}")
    images = list_images(folder)
    sizes, formats = [], set()
    for path in images:
        hooks.beat()
        with _image(path) as image:
            formats.add(str(image.format).lower())
            quarter_turn = _exif_orientation(image) >= 5
            sizes.append((image.width, image.height) if quarter_turn else image.size[::-1])
            limits.check_picture(path, *sizes[-1])
            if decode:
                _rgb(image)
        if sizes[-1] != sizes[0]:
            raise MixedSizes(
                f"{path}: {sizes[-1][1]}x{sizes[-1][0]} pixels, but {images[0].name} has "
                f"{sizes[0][1]}x{sizes[0][0]}; a folder is one video, so scale them alike"
            )
    flags = {"gaps"} if _has_gaps(images) else set()
    if len(images) < SHORT:
        flags.add("short")
    return ProbeRow(
        path=str(folder),
        content_id=identity,
        kind="images",
        n_frames=len(images),
        decoded=decode,
        fps=fps,
        height=sizes[0][0],
        width=sizes[0][1],
        rotation=0,
        duration=len(images) / fps,
        codec="+".join(sorted(formats)),
        container="images",
        flags=tuple(sorted(flags)),
    )


def image_frames(
    row: ProbeRow,
    start: int,
    stop: int | None,
    reading: Reading,
    wanted: Wanted | None = None,
    resizes: Sequence[Resize] = (),
) -> Generator[Frame, None, None]:
    """Frames of an image folder; see `decode.read_frames`."""
    images = list_images(Path(row.path))
    if len(images) != row.n_frames:
        raise DecodeError(
            f"{row.path}: {len(images)} images, but {row.n_frames} when it was probed; probe again"
        )
    for number, path in enumerate(images[start:stop], start):
        reading.hooks.beat()
        with _image(path) as image:
            pixels = _rgb(image)
        if pixels.shape[:2] != (row.height, row.width):
            raise MixedSizes(f"{path}: its size has changed since the folder was probed")
        reading.at_end = number + 1 == len(images)
        reading.passed = number + 1
        if wanted is not None and number not in wanted:
            continue
        first, *others = placed(pixels, resizes, reading.hooks.room)
        yield Frame(number, number / row.fps, first, others=tuple(others))
    reading.at_end = stop is None or stop >= len(images)


@contextmanager
def _image(path: Path) -> Iterator[Image.Image]:
    """Open an image; errors of Pillow while it is in use are raised with the name of the file."""
    try:
        needed = path.stat().st_size
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            needed += PIXEL_BYTES * image.width * image.height
            yield image
    except _BROKEN as error:
        raise UnreadableImage(f"{path}: cannot be read as an image: {error}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{path}: too large for a frame: {error}") from error
    except MemoryError as error:
        if not has_room(needed):
            raise
        raise UnreadableImage(f"{path}: a size in it is wrong: no memory is that large") from error


def _exif_orientation(image: Image.Image) -> int:
    """1 to 8; 5 and more include a quarter turn. 1 where the header states none."""
    # The base class's getexif: that of PNG decodes the picture to find EXIF data after it.
    stated = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
    return stated if stated in range(1, 9) else 1


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Upright (H, W, 3) uint8. 16-bit grey keeps its upper byte, alpha is dropped."""
    if _exif_orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey; some Pillow versions open it as 32-bit
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("32-bit integers are no picture; convert it to 8 or 16 bits")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point values are no picture; convert it to 8 or 16 bits")
    return np.array(image.convert("RGB"))
