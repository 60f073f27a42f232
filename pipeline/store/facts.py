"""What a shard says of itself: its attributes, the seal over them, and the place it belongs to.

From format 3 on, one more attribute, `seal`, holds all others as JSON with a sha256 over them. It
is what is read; the plain attributes are for other programs, and `vadpipe cache verify` compares
them. Older shards have plain attributes only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...data_manifests.stored import parse_json
from .errors import StoreError
from .keys import KEY_DIGITS, canonical_json

SEAL = "seal"
SEALED_FORMAT = 3  # the first format with a seal


@dataclass(frozen=True)
class ShardFacts:
    """What a shard says of itself and of its video.

    Attributes:
        format: of the file.
        axes: its row axes; ("",) in format 1, which has one.
        content_id: the video.
        whole_id: an id that covers every byte of the video, see `ProbeRow`; "" where it is not
            known.
        frame_start: first frame, as planned.
        frame_stop: one past the last, as planned.
        last: the video ends in it.
        n_frames: of the video, by the decoder; -1 where it does not end here.
        fps: frames per second.
        flags: what decoding noticed.
        damaged: frames that the decoder marked as damaged.
        damaged_frames: which, as `ranges_of` writes them; "" where that is not known.
        key: of the feature set.
        checksum: sha256 over the arrays.
        maker: what made it: versions and the kind of device; see `facts_of`.
    """

    format: int
    axes: tuple[str, ...]
    content_id: str
    whole_id: str
    frame_start: int
    frame_stop: int
    last: bool
    n_frames: int
    fps: float
    flags: tuple[str, ...]
    damaged: int
    damaged_frames: str
    key: str
    checksum: str
    maker: Mapping[str, str]


_OWN = frozenset(
    (
        "format", "axes", "content_id", "whole_id", "frame_start", "frame_stop", "last", "n_frames",
        "fps", "flags", "damaged", "damaged_frames", "key", "checksum",
    )
)  # fmt: skip


def seal_of(attrs: Mapping[str, Any]) -> str:
    """The seal over attributes: a sha256 and their canonical JSON."""
    text = canonical_json(attrs)
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}"


def format_of(file: h5py.File) -> int:
    """The format of an open shard.

    Raises:
        StoreError: it makes no sense.
    """
    form = file.attrs.get("format", 1)
    if not isinstance(form, int | np.integer):
        raise StoreError(f"{file.filename}: its attributes are no shard's: format {form!r}")
    return int(form)


def facts_of(file: h5py.File, *, maker: bool = False) -> ShardFacts:
    """What an open shard says of itself.

    Args:
        file:
            The shard.
        maker:
            Look at what made it in older formats too, where each attribute costs time.

    Raises:
        StoreError: the seal is missing or broken, or an attribute is missing or makes no sense.
    """
    try:
        attrs = _sealed(file)
        if attrs is None:
            attrs = {n: file.attrs[n] for n in file.attrs if maker or n in _OWN}
        return _checked(attrs)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"{file.filename}: its attributes are no shard's: {error!r}") from error


def check_attributes(file: h5py.File) -> ShardFacts:
    """`facts_of`; the plain attributes are compared with the seal as well.

    Raises:
        StoreError: as `facts_of`, or a plain attribute differs from the sealed one.
    """
    facts = facts_of(file, maker=True)
    sealed = _sealed(file)
    if sealed is not None:
        plain = {name: value for name, value in file.attrs.items() if name != SEAL}
        differing = sorted(
            name
            for name in {*sealed, *plain}
            if name not in sealed or name not in plain or not _equal(plain[name], sealed[name])
        )
        if differing:
            raise StoreError(f"{file.filename}: attributes were changed: {', '.join(differing)}")
    return facts


def check_place(facts: ShardFacts, path: Path, frames: tuple[int, int] | None) -> None:
    """Compare what a shard says with where it lies: `<name>-<key12>/shards/<hh>/<content id>/`.

    Args:
        facts:
            What it says.
        path:
            The shard.
        frames:
            First and last frame by its name.

    Raises:
        StoreError: it was moved here from another place.
    """
    key = path.parents[3].name.rpartition("-")[2]
    said = (facts.content_id, facts.frame_start, facts.frame_stop)
    if frames is None or said != (path.parent.name, *frames) or facts.key[:KEY_DIGITS] != key:
        raise StoreError(
            f"{path}: this shard belongs to {facts.content_id} "
            f"{facts.frame_start}-{facts.frame_stop} of the set {facts.key[:KEY_DIGITS]}; run "
            "vadpipe cache verify --drop, then vadpipe extract"
        )


def _sealed(file: h5py.File) -> dict[str, Any] | None:
    """The attributes under the seal; None in formats without one."""
    seal = file.attrs.get(SEAL)
    if seal is None:
        if format_of(file) >= SEALED_FORMAT:
            raise StoreError(f"{file.filename}: the seal over its attributes is missing")
        return None
    digest, _, text = str(seal).partition(" ")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise StoreError(f"{file.filename}: the seal over its attributes is broken")
    attrs: dict[str, Any] = parse_json(text, file.filename)
    return attrs


def _checked(attrs: Mapping[str, Any]) -> ShardFacts:
    form = _whole(attrs.get("format", 1))
    axes = ("",) if form == 1 else tuple(_text(attrs["axes"]).split())
    if not axes:
        raise ValueError("it has no axis")
    fps = float(attrs["fps"])
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps is {fps}")
    return ShardFacts(
        format=form,
        axes=axes,
        content_id=_text(attrs["content_id"]),
        whole_id=_text(attrs.get("whole_id", "")),
        frame_start=_whole(attrs["frame_start"]),
        frame_stop=_whole(attrs["frame_stop"]),
        last=bool(_whole(attrs["last"])),
        n_frames=_whole(attrs["n_frames"]),
        fps=fps,
        flags=tuple(_text(attrs["flags"]).split()),
        damaged=_whole(attrs.get("damaged", 0)),
        damaged_frames=_text(attrs.get("damaged_frames", "")),
        key=_text(attrs["key"]),
        checksum=_text(attrs["checksum"]),
        maker={name: str(value) for name, value in attrs.items() if name not in _OWN},
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # a ValueError where HDF5 held other bytes than UTF-8
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int | np.integer | np.bool_):
        raise TypeError(f"{value!r} is no whole number")
    return int(value)


def _equal(plain: Any, sealed: Any) -> bool:
    """Whether an attribute as HDF5 returns it is the value that was sealed."""
    value = plain.item() if isinstance(plain, np.generic) else plain
    return type(value) is type(sealed) and bool(value == sealed)
