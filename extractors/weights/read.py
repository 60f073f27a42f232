"""Read arrays from files of other authors, without running code that the files contain."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from .cards import WeightsError


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file without running code that it contains.

    The file may be safetensors, a state dict from `torch.save`, a TorchScript archive, or a pickle
    of numpy arrays. Nested dicts are flattened with "/". Floats become float32. Everything that is
    not an array of numbers is left out.

    A file of others is read by `guarded_arrays`, which calls this in a bounded process.

    Raises:
        WeightsError: the file is of another kind, is damaged, or asks to run code; or it has far
            more arrays, levels or numbers than weights have.
    """
    with path.open("rb") as stream:
        head = stream.read(16)
    try:
        if head[8:9] == b"{":
            tree = _read_safetensors(path)
        elif head.startswith((b"PK\x03\x04", _TORCH_LEGACY[:16])):
            tree = _read_torch(path)
        elif head.startswith((b"\x80", b"(", b"}")):  # the last two start dicts of Python 2
            with path.open("rb") as stream:
                tree = _ArrayUnpickler(stream).load()
        else:
            raise WeightsError("it is neither safetensors, nor a torch file, nor a pickle")
        return _Flattened(MOST_BYTES + MOST_GROWTH * path.stat().st_size).arrays(tree)
    except MemoryError as error:
        raise WeightsError(
            f"cannot read weights from {path}: it needs more memory than a file of its size may "
            "take: it is damaged or hostile; get it again"
        ) from error
    except Exception as error:  # parsers raise many kinds for a hostile or damaged file
        raise WeightsError(f"cannot read weights from {path}: {error}") from error


_TORCH_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # how files from before 2020 start

# Classes of trainers that stand beside the tensors: settings, and keys of what callbacks keep.
_READ_AS_DICTS = (
    "yacs.config.CfgNode",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file  # numpy has no bfloat16

    return dict(load_file(path))


def _read_torch(path: Path) -> Any:
    import torch

    from .torchscript import is_torchscript, read_torchscript

    if zipfile.is_zipfile(path) and is_torchscript(path):
        return read_torchscript(path)
    # Checkpoints of some trainers hold settings, which are read as dicts without their package.
    with torch.serialization.safe_globals([(OrderedDict, name) for name in _READ_AS_DICTS]):
        return torch.load(path, map_location="cpu", weights_only=True)


MOST_ARRAYS = 100_000
DEEPEST = 100  # dicts in dicts
MOST_BYTES = 64 << 20  # of all arrays together, and
MOST_GROWTH = 8  # for each byte of the file: of 16 bits, and under several names


@dataclass
class _Named:
    """Arrays of a part of a tree by their names in it; the name of a single array is None."""

    arrays: list[tuple[str | None, NDArray[Any]]] = field(default_factory=list)
    size: int = 0  # bytes

    def add(self, name: str | None, values: NDArray[Any], most: int) -> None:
        """Add an array.

        Raises:
            WeightsError: there are too many, or they are too large.
        """
        self.arrays.append((name, values))
        self.size += values.nbytes
        if len(self.arrays) > MOST_ARRAYS:
            raise WeightsError(f"it has more than {MOST_ARRAYS:,} arrays")
        if self.size > most:
            raise WeightsError("its arrays are far larger than the file")


class _Flattened:
    """The arrays in nested dicts by their joined names.

    Each dict and each array is looked at once, however often it is referred to: a few bytes can
    describe a tree of 2^60 places. An array that has several names is returned under each of them.

    Args:
        most: bytes of all arrays together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[int, _Named] = {}
        self._open: set[int] = set()

    def arrays(self, tree: Any) -> dict[str, NDArray[Any]]:
        """All arrays of a tree.

        Raises:
            WeightsError: there are too many, or they are too deep or too large.
        """
        return {name or "": values for name, values in self._named(tree).arrays}

    def _named(self, value: Any) -> _Named:
        place = id(value)
        if place in self._open:
            raise WeightsError("a dict in it contains itself")
        if place in self._seen:
            return self._seen[place]
        found = _Named()
        if isinstance(value, Mapping):
            if len(self._open) >= DEEPEST:
                raise WeightsError(f"more than {DEEPEST} dicts lie in each other")
            self._open.add(place)
            for key, child in value.items():
                if isinstance(key, tuple | frozenset):  # as text they can be of any length
                    continue
                for name, values in self._named(child).arrays:
                    found.add(str(key) if name is None else f"{key}/{name}", values, self._most)
            self._open.remove(place)
        elif (array := _array_of(value, self._most)) is not None:
            found.add(None, array, self._most)
        self._seen[place] = found
        return found


def _array_of(value: Any, most: int) -> NDArray[Any] | None:
    """The numbers of a leaf; None if it has none.

    Raises:
        WeightsError: there are too many.
    """
    if hasattr(value, "is_floating_point"):  # a tensor; torch is not imported for this
        if value.numel() * value.element_size() > most:  # strides of 0 repeat numbers
            raise WeightsError("a tensor is far larger than the file")
        tensor = value.detach()
        numbers: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return numbers
    if isinstance(value, _PickledArray) and (array := value.array) is not None:
        return array.astype(np.float32) if array.dtype.kind == "f" else array
    return None


class _PickledType:
    """Stands for a numpy dtype: keeps its code ("f4") and byte order, and ignores the rest.

    numpy trusts the flags in a pickled dtype, so a forged one makes it use numbers as pointers.
    """

    def __init__(self, code: str) -> None:
        self.code: str = code
        self.order: Any = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def array(
        self, data: bytes | str, shape: tuple[int, ...], order: Literal["C", "F"]
    ) -> NDArray[Any] | None:
        """Copy numbers into an array; None if the type is not a number."""
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
    """Builds dicts, lists, text, numbers and arrays of numbers; refuses all other classes.

    A file may call methods of this object only, so it cannot change what it calls.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")  # Python 2 wrote bytes for text

    def find_class(self, module: str, name: str) -> Any:
        """Return a harmless replacement of a class, or refuse it."""
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy", "ndarray":
                return None  # passed to _reconstruct only, which ignores it
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
        return _PickledArray()  # the state that follows has the content

    def _scalar(self, *_: Any) -> None:
        """Drop single numbers of numpy: they are not weights."""

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
