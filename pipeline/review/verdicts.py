"""The file of verdicts that a review page saves, read as anyone may have written it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...data_manifests.errors import VadpipeError
from ...data_manifests.settings import in_words
from ...data_manifests.stored import read_json
from ..scores.checked import MOST_FRAMES

FORMAT, VERSION = "vadpipe verdicts", 1
MOST = 1_000_000  # verdicts of a file
# What the card of a model says of the models before it: it learnt from their verdicts, or its page
# goes on with them without having learnt from any.
FEEDBACK_ON, VERDICTS_OF = "feedback_on", "verdicts_of"

Frame = Field(ge=0, lt=MOST_FRAMES)


class VerdictError(VadpipeError, ValueError):
    """A file holds no verdicts, or verdicts that no page saves."""


class Verdict(BaseModel):
    """What was said of one event or moment.

    Attributes:
        video_id: as in the score folder.
        content_id: of the file that was judged; None where it has none.
        verdict: None where there is a note only.
        note: free text of the user.
        frame_start: first frame, as the page showed it.
        frame_stop: one past the last.
        corrected_start: first frame, as the user corrected it; None where it was not corrected.
        corrected_stop: one past the last, likewise.
        peak_frame: what the verdict belongs to.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    video_id: str
    content_id: str | None = None
    verdict: Literal["accept", "reject", "unsure"] | None = None
    note: str = ""
    frame_start: int = Frame
    frame_stop: int = Frame
    peak_frame: int = Frame
    corrected_start: int | None = Field(default=None, ge=0, lt=MOST_FRAMES)
    corrected_stop: int | None = Field(default=None, ge=0, lt=MOST_FRAMES)

    @model_validator(mode="after")
    def _ordered(self) -> Verdict:
        if not self.frame_start <= self.peak_frame < self.frame_stop:
            raise ValueError("frame_start, peak_frame and frame_stop are not in this order")
        start, stop = self.span
        if start >= stop:
            raise ValueError("the corrected borders are not in order")
        return self

    @property
    def span(self) -> tuple[int, int]:
        """The frames [start, stop), with the user's borders where there are some."""
        start = self.frame_start if self.corrected_start is None else self.corrected_start
        stop = self.frame_stop if self.corrected_stop is None else self.corrected_stop
        return start, stop


@dataclass(frozen=True)
class Verdicts:
    """All verdicts of a file.

    Attributes:
        verdicts: in the order of the file.
        page: of which page, see `page_id`.
        column: score column that the page showed.
    """

    verdicts: tuple[Verdict, ...]
    page: str
    column: str


def page_id(run: Mapping[str, Any], column: str) -> str:
    """By which verdicts know their page: the model and the score column, wherever the page lies.

    Which file a verdict is about stands in the verdict, so footage that is added loses none. A
    model that learnt from verdicts, or was trained again for a new camera, has the page of the
    model that was judged first, so that they are carried over.

    Args:
        run:
            Of the score folder.
        column:
            The score column that the page shows.
    """
    about = [first_judged(run), column]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def first_judged(run: Mapping[str, Any]) -> Any:
    """Key of the model whose events were judged first: that of the run, or one before it."""
    model = run.get("model") or {}
    return next(iter(judged_before(model.get("trained_on"))), model.get("key"))


def judged_before(trained_on: Any) -> list[str]:
    """Keys of the models whose verdicts go on with a model, the first one first."""
    return learnt_from(trained_on) or _keys_in(trained_on, VERDICTS_OF)


def learnt_from(trained_on: Any) -> list[str]:
    """Keys of the models before a model that learnt from verdicts, the first one first; else []."""
    return _keys_in(trained_on, FEEDBACK_ON)


def _keys_in(trained_on: Any, name: str) -> list[str]:
    known = trained_on.get(name) if isinstance(trained_on, Mapping) else None
    return [each for each in known if isinstance(each, str)] if isinstance(known, list) else []


def read_verdicts(path: Path) -> Verdicts:
    """Read a file that a review page saved as JSON.

    Raises:
        VerdictError: it is no such file, or a verdict is none that a page saves.
        DamagedFile: it is no JSON.
    """
    values = read_json(path)
    if values.get("format") != FORMAT or values.get("version") != VERSION:
        raise VerdictError(
            f"{path} holds no verdicts of version {VERSION}: save them as JSON on the review page"
        )
    listed: Any = values.get("verdicts")
    if not isinstance(listed, list) or len(listed) > MOST:
        raise VerdictError(f"{path}: verdicts is no list of at most {MOST:,}")
    found = []
    for number, each in enumerate(listed, start=1):
        try:
            found.append(Verdict.model_validate(each))
        except ValidationError as error:
            raise VerdictError(f"{path}: verdict {number}: {in_words(error)}") from error
    named = [values.get(name) for name in ("page", "column")]
    page, column = (each if isinstance(each, str) else "" for each in named)
    return Verdicts(tuple(found), page, column)
