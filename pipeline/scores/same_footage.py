"""Whether several score folders are about the same frames of the same footage."""

from __future__ import annotations

from collections.abc import Mapping

from ...data_manifests.errors import VadpipeError
from .folder import ScoreFolder
from .part import whole_id_of

# What tells that two folders are about the same frames of a video.
SAME = ("content_id", "n_frames", "fps", "frame_start", "frame_stop")
NAMED = 5  # videos in a message


class OtherFootageError(VadpipeError, ValueError):
    """Score folders are about different footage; the message says what differs."""


def check_same_footage(folders: Mapping[str, ScoreFolder]) -> None:
    """Compare the videos of score folders: which they are, their content, length, rate and part.

    Args:
        folders:
            Name in messages -> folder; each is compared with the first.

    Raises:
        OtherFootageError: something differs.
        ScoreFolderError: a folder is incomplete or damaged.
    """
    (first, one), *others = folders.items()
    rows = {row["video_id"]: row for row in one.videos()}
    for name, other in others:
        theirs = {row["video_id"]: row for row in other.videos()}
        for lacking, what in ((name, rows.keys() - theirs.keys()), (first, theirs.keys() - rows)):
            if what:
                raise OtherFootageError(
                    f"{lacking} lacks videos that {first if lacking == name else name} has: "
                    f"{_some(what)}. Score the same videos with both, or compare others"
                )
        wrong = {}
        for video_id, row in rows.items():
            differing = [key for key in SAME if row[key] != theirs[video_id][key]]
            if not differing:
                wholes = {whole_id_of(each.notes(video_id)) for each in (one, other)} - {""}
                differing = ["the file"] if len(wholes) > 1 else []
            if differing:
                wrong[video_id] = differing
        if wrong:
            video_id = min(wrong)
            raise OtherFootageError(
                f"{name} is about other footage than {first}: {', '.join(wrong[video_id])} of "
                f"{video_id} differ, and {len(wrong)} of {len(rows)} videos are like that. Score "
                "the same files with both"
            )


def _some(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
