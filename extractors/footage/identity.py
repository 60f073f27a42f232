"""Name a video by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO, Literal

from .errors import EmptyFile, MissingFile
from .image_folder import list_images

HashMode = Literal["sampled", "full"]

MIB = 1 << 20
BLOCK, BLOCKS = 64 << 10, 16


def content_id(path: Path, hash_mode: HashMode = "sampled") -> str:
    """Name a file, or a folder of images, by its content.

    Args:
        path: a file or a folder of images.
        hash_mode: "sampled" hashes the size, the first and last MiB and 16 blocks of 64 KiB spread
            evenly (every byte of a file of up to 3 MiB); "full" hashes every byte.

    Returns:
        `s1-` or `f1-` and the first 40 hex digits of a sha256. A folder is the hash of the ids of
        its images in natural order; their names count for that order only.

    Raises:
        MissingFile: there is no such file, or it may not be read.
        EmptyFile: it has no bytes.
        NoFrames: the folder holds no images.
    """
    path = Path(path)
    prefix = {"sampled": "s1-", "full": "f1-"}[hash_mode]
    if path.is_dir():
        ids = "\n".join(content_id(image, hash_mode) for image in list_images(path))
        return prefix + hashlib.sha256(ids.encode()).hexdigest()[:40]
    if not path.is_file():  # not a pipe either: opening one would wait for ever
        raise MissingFile(f"{path}: there is no such file; check the path in the manifest")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise EmptyFile(f"{path}: the file is empty; copy it again or drop it")
            if hash_mode == "full":
                return prefix + hashlib.file_digest(file, "sha256").hexdigest()[:40]
            return prefix + _sampled_digest(file, size)[:40]
    except OSError as error:
        raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error


def _sampled_digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    if size <= 2 * MIB + BLOCKS * BLOCK:
        digest.update(file.read())
        return digest.hexdigest()
    room = size - 2 * MIB - BLOCK  # where blocks may start, counted from the end of the first MiB
    parts = [(0, MIB), (size - MIB, MIB)]
    parts += [(MIB + room * i // (BLOCKS - 1), BLOCK) for i in range(BLOCKS)]
    for start, length in parts:
        file.seek(start)
        digest.update(file.read(length))
    return digest.hexdigest()
