"""Files that ended a process are not opened again until a user releases them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from distributed import KilledWorker

from ...data_manifests.atomic import remove_anything, write_text
from ...data_manifests.stored import leave_out, read_json
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
    """All files in quarantine, by their key; an entry that cannot be read is left out and named."""
    return dict(barred(cache).readable)


@dataclass(frozen=True)
class Barred:
    """What may not be opened.

    Attributes:
        readable: by key.
        damaged: entries that cannot be read, by the names of their files: those are made of the
            key, so that such an entry bars its file all the same.
    """

    readable: Mapping[str, Quarantine]
    damaged: Mapping[str, Path]

    def get(self, key: str) -> Quarantine | None:
        """The entry of a file; None if it may be opened."""
        if key in self.readable or not self.damaged:
            return self.readable.get(key)
        path = self.damaged.get(_name(key))
        if path is None:
            return None
        return Quarantine(key, key.rpartition("|")[2], "an unknown error", f"see {path}")


def barred(cache: Path) -> Barred:
    """Read the quarantine of a cache."""
    found, damaged = {}, {}
    for path in sorted((cache / "quarantine").glob("*.json")):
        try:
            values = read_json(path)
            entry = Quarantine(**{str(name): value for name, value in values.items()})
            if not all(isinstance(value, str) for value in vars(entry).values()):
                raise TypeError("a value is no text")
        except FileNotFoundError:
            continue  # just released
        except (OSError, ValueError, TypeError) as error:
            damaged[path.name] = path
            leave_out(path, error, "its file stays barred; vadpipe cache quarantine --release all")
        else:
            found[entry.key] = entry
    return Barred(found, damaged)


def release_all(cache: Path) -> None:
    """Release every file, those whose entry is damaged too."""
    for path in (cache / "quarantine").glob("*.json"):
        remove_anything(path)


def release(cache: Path, key: str) -> None:
    """Release a file; nothing happens if it is not in quarantine."""
    remove_anything(_place(cache, key))


def _place(cache: Path, key: str) -> Path:
    return cache / "quarantine" / _name(key)


def _name(key: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"
