"""Read arrays from files of other authors, without running code that the files contain."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
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

    Raises:
        WeightsError: the file is of another kind, is damaged, or asks to run code.
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
        return dict(_flatten(tree))
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
