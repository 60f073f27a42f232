"""What fast copies were made of: ids alone do not say that a copy is that of a clip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ...data_manifests.atomic import write_text
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.stored import DamagedFile, read_json
from ...detectors.base import Bag
from ...detectors.object_maps import read_objects

SOURCES = "sources.json"  # beside the manifest of the copies
_AGAIN = "make the copies again, vadpipe choose copies"


class CopySource(BaseModel):
    """The footage of a copy.

    Attributes:
        content_id: of the file that the clip is, or is a part of.
        frames: the frames [start, stop) of that file.
        speed: every how many of these frames are in the copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_id: str
    frames: tuple[int, int]
    speed: int = Field(ge=2)


_TABLE = TypeAdapter(dict[str, CopySource])


def write_sources(sources: Mapping[str, CopySource], folder: Path) -> None:
    """Write what each copy was made of: id of the copy -> its footage."""
    values = {name: source.model_dump(mode="json") for name, source in sources.items()}
    write_text(folder / SOURCES, json.dumps(values, indent=1) + "\n")


def read_sources(copies: Manifest) -> dict[str, CopySource]:
    """Read what each copy was made of.

    Raises:
        ManifestError: there is no such list beside the copies, or it is damaged.
    """
    path = Path(copies.root) / SOURCES
    try:
        return _TABLE.validate_python(read_json(path))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path} does not exist, so these are not known to be copies: {_AGAIN}"
        ) from error
    except (OSError, DamagedFile, ValidationError) as error:
        reason = "its values are not what is written" if isinstance(error, ValidationError) else ""
        raise ManifestError(f"{path} cannot be used ({reason or error}): {_AGAIN}") from error


def check_copy(
    copy: Bag,
    sources: Mapping[str, CopySource],
    content_id: str,
    clip: Bag,
    frames: tuple[int, int],
) -> None:
    """Refuse a copy that is not of a clip.

    Args:
        copy:
            With objects.
        sources:
            What `read_sources` returned.
        content_id:
            Of the file of the clip.
        clip:
            With objects.
        frames:
            The frames [start, stop) of its file that are the clip.

    Raises:
        ManifestError: it was made of other footage, or of other frames of it; or its length or the
            size of its frames is another one.
    """
    source = sources.get(copy.video_id)
    said = f"{copy.video_id} is not a copy of {clip.video_id}"
    if source is None:
        raise ManifestError(f"{said}: {SOURCES} does not list it; {_AGAIN}")
    if source.content_id != content_id:
        raise ManifestError(f"{said}: it was made of another file; {_AGAIN}")
    if source.frames != frames:
        raise ManifestError(
            f"{said}: it was made of the frames {source.frames}, the clip has {frames}; {_AGAIN}"
        )
    wanted = len(range(*frames, source.speed))
    if copy.n_frames != wanted:
        raise ManifestError(
            f"{said}: it has {copy.n_frames} frames, and one in {source.speed} of {frames} are "
            f"{wanted}; {_AGAIN}"
        )
    sizes = read_objects(copy).size, read_objects(clip).size
    if sizes[0] != sizes[1]:
        raise ManifestError(f"{said}: its frames are {sizes[0]}, those of the clip {sizes[1]}")
