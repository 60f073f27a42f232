"""Scenes of footage: which camera a file is from, by its folder or by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .plain_text import counted
from .record import Manifest, ManifestError

FOLDER = "folder"
NAMED = 5  # videos that a message names


@dataclass(frozen=True)
class SceneRule:
    """How the scene of a video is read off its path.

    Attributes:
        text: as given: `FOLDER`, or a regular expression with one group.
    """

    text: str

    def __post_init__(self) -> None:
        if self.text == FOLDER:
            return
        try:
            groups = re.compile(self.text).groups
        except (re.error, RecursionError, OverflowError) as error:
            raise ManifestError(
                f"scene_from {self.text!r} is no regular expression ({error}): write {FOLDER}, or "
                "an expression with one group, as 'cam([0-9]+)'"
            ) from error
        if groups != 1:
            raise ManifestError(
                f"scene_from {self.text!r} has {groups} groups: put the part of the path that "
                "names the camera in one pair of parentheses, as 'cam([0-9]+)', and use (?:...) "
                "for others"
            )

    def scene_of(self, path: str) -> str | None:
        """The scene of a video, or None where its path names none.

        Args:
            path:
                Of the file or image folder below the folder that was listed, with "/".
        """
        if self.text == FOLDER:
            outer, inside, _ = path.partition("/")
            return outer if inside else None
        found = re.search(self.text, path)
        scene = found[1] if found else None
        return scene if scene and scene.strip() else None


def scenes_of(paths: Sequence[str], scene_from: str | None) -> dict[str, str | None]:
    """Path -> scene of all videos of a folder.

    Args:
        paths:
            Below the folder, with "/".
        scene_from:
            `FOLDER` takes the first folder on the way to the video; a regular expression takes what
            its group finds in the path; None names no scene.

    Raises:
        ManifestError: no path names a scene, or the expression is none with one group.
    """
    if scene_from is None:
        return dict.fromkeys(paths)
    if not isinstance(scene_from, str):
        raise ManifestError(f"scene_from {scene_from!r} must be a text")
    rule = SceneRule(scene_from)
    found = {path: rule.scene_of(path) for path in paths}
    if paths and not any(found.values()):
        what = "lies in a folder below" if scene_from == FOLDER else f"matches {scene_from!r}"
        raise ManifestError(
            f"scene_from: none of {len(paths)} videos {what}, the first is {paths[0]!r}: leave it "
            "out if all are of one camera"
        )
    return found


def scene_lines(manifest: Manifest) -> list[str]:
    """What there is of each scene, and the videos without one; [] where no scene is named."""
    videos: dict[str | None, dict[str, None]] = {}
    for record in manifest.records:
        place = record.path or record.video_id
        videos.setdefault(record.scene, {})[place] = None
    without = videos.pop(None, {})
    if not videos:
        return []
    listed = ", ".join(f"{scene} ({counted(len(of), 'video')})" for scene, of in videos.items())
    lines = [f"{counted(len(videos), 'scene')}: {listed}"]
    if without:
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        named = ", ".join(list(without)[:NAMED])
        lines.append(f"no scene is named by {counted(len(without), 'video')}: {named}{more}")
    return lines
