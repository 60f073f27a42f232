"""The rule of a threshold that is kept with a model, and how far it can be trusted."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from ...data_manifests.atomic import write_text
from ...data_manifests.errors import VadpipeError
from ...data_manifests.settings import Settings, in_words
from ...data_manifests.stored import DamagedFile, read_json
from .events import EventConfig

FILE = "threshold.json"  # its name in a model folder


class StoredThresholdError(VadpipeError, ValueError):
    """The file of a threshold is damaged; the message says what to do."""


class Measured(Settings):
    """One point of a calibration curve, of footage that was left out.

    Attributes:
        stated: share of rows above the threshold, or events a day, that the others gave.
        found: the same of the footage that was left out.
        least: the lower end of the 95 % interval of `found`; None where none is known.
        most: its upper end.
    """

    stated: float
    found: float
    least: float | None = None
    most: float | None = None


class StoredThreshold(Settings):
    """A rule, what it gave, and how far that can be trusted.

    Scores are compared with what the rule gives for the held-out rows of the model, so `high` and
    `low` are for the reader.

    Attributes:
        rule: how scores become events.
        high: raw score that starts an event.
        low: raw score that keeps it going.
        lines: what the threshold rests on.
        warnings: why it deserves little trust.
        unit: of `curve`: "share of rows" or "events a day".
        curve: stated against measured, each video left out once; () with a single video.
        weights_sha256: of the model that it was made for.
        created: when, in UTC.
        command: how.
    """

    rule: EventConfig
    high: float
    low: float
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unit: str = ""
    curve: tuple[Measured, ...] = ()
    weights_sha256: str | None = None
    created: str = ""
    command: str = ""

    @classmethod
    def read(cls, path: Path) -> StoredThreshold | None:
        """What `write` wrote; None without a file.

        Raises:
            StoredThresholdError: the file is damaged.
        """
        if not path.is_file():
            return None
        cure = "run vadpipe threshold again with a rule, or delete the file"
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise StoredThresholdError(f"{path} is damaged ({in_words(error)}): {cure}") from error
        except (DamagedFile, OSError) as error:
            raise StoredThresholdError(f"{error}: {cure}") from error

    def write(self, path: Path) -> None:
        """Write it to a file.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        values = {**self.model_dump(mode="json"), "rule": self.rule.for_key()}
        write_text(path, json.dumps(values, indent=1))
