"""Files that ended a process are not opened again until a user releases them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from distributed import KilledWorker

from ...data_manifests.atomic import write_text
from ...extractors.footage.errors import DecodeError, DecoderKilled, HostileVideo


class Quarantined(DecodeError):
    """The file is in quarantine."""


@dataclass(frozen=True)
class Quarantine:
    """One file that is not opened, and why.

    Attributes:
        key: content id, or the signature by which the probe knows a file.
        path: where it was.
        error: class of the error.
        message: of the error.
    """

    key: str
    path: str
    error: str
    message: str

    def refusal(self) -> Quarantined:
        """The error that stands for it in a run."""
        return Quarantined(
            f"{self.path}: in quarantine since it ended with {self.error} ({self.message}). Once "
            "it is repaired or trusted: vadpipe cache quarantine --release, or --retry-quarantined"
        )


def belongs_there(error: BaseException) -> bool:
    """Whether an error ended a process, so that the file would end the next one too.

    A decoder that was killed from outside says nothing about its file.
    """
    return isinstance(error, HostileVideo | KilledWorker) and not isinstance(error, DecoderKilled)


def add(cache: Path, key: str, path: str, error: BaseException) -> None:
    """Put a file into quarantine."""
    entry = Quarantine(key, path, type(error).__name__, str(error) or repr(error))
    text = json.dumps(asdict(entry), indent=1)
    write_text(_place(cache, key), text)


def entries(cache: Path) -> dict[str, Quarantine]:
    """All files in quarantine, by their key; an entry that cannot be read is left out."""
    found = {}
    for path in sorted((cache / "quarantine").glob("*.json")):
        try:
            entry = Quarantine(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        found[entry.key] = entry
    return found


def release(cache: Path, key: str) -> None:
    """Release a file; nothing happens if it is not in quarantine."""
    _place(cache, key).unlink(missing_ok=True)


def _place(cache: Path, key: str) -> Path:
    return cache / "quarantine" / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"
