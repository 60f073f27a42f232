"""Read the tensors of TorchScript archives, without their code.

Such an archive is a zip file that holds a program and its data. `torch.jit.load` compiles the
program, and `torch.load(weights_only=True)` refuses the file. This module reads the data only: the
pickle, with an unpickler that knows tensors and objects without behaviour, and the raw numbers.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

# Tensors may share a storage. This limit stops a small file from becoming a huge state.
MAX_GROWTH = 4


def is_torchscript(path: Path) -> bool:
    """Tell whether a zip file has the two pickles by which torch recognises TorchScript."""
    with zipfile.ZipFile(path) as archive:
        inside = {name.partition("/")[2] for name in archive.namelist()}
    return {"data.pkl", "constants.pkl"} <= inside


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read parameters and buffers by their dotted names, as `torch.jit.load(path).state_dict()`.

    The tensors of a module that is used in two places are returned once, under the first name.

    Raises:
        Exception: of many kinds, if the file is damaged or asks for anything but tensors; the
            caller (`read_arrays`) turns them into one `WeightsError`.
    """
    most = MAX_GROWTH * path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > most:
            raise pickle.UnpicklingError("it unpacks to far more than its size")
        (pickled,) = [n for n in archive.namelist() if n.partition("/")[2] == "data.pkl"]
        state = dict(_tensors(_Unpickler(archive, pickled.partition("/")[0]).load(), "", set()))
    if sum(t.numel() * t.element_size() for t in state.values()) > most:
        raise pickle.UnpicklingError("its tensors are far larger than the file")
    return state


class _Object:
    """Stands for an instance of a class that the archive defines: attributes without behaviour."""

    attributes: Mapping[str, Any] = {}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.attributes = state


def _tensors(value: _Object, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    seen.add(id(value))
    for name, child in value.attributes.items():
        if isinstance(child, Tensor):
            yield f"{prefix}{name}", child
        elif isinstance(child, _Object) and id(child) not in seen:
            yield from _tensors(child, f"{prefix}{name}.", seen)


class _Unpickler(pickle.Unpickler):
    """Builds tensors and objects without behaviour; refuses all other classes."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive = archive
        self._root = root
        self._storages: dict[str, Tensor] = {}
        order = f"{root}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise pickle.UnpicklingError("it was written on a big-endian machine")

    def find_class(self, module: str, name: str) -> Any:
        """Return a harmless replacement of a class, or refuse it."""
        match module.partition(".")[0], module, name:
            case "__torch__", _, _:
                return _Object
            case _, "torch", str() if name in _DTYPES:
                return _DTYPES[name]
            case _, "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
            case _, "torch.jit._pickle", _:  # typed lists and dicts
                return self._first
            case _, "collections", "OrderedDict":
                return dict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")

    def persistent_load(self, pid: Any) -> Tensor:
        """Read the numbers of a storage, flat."""
        _, dtype, key, _, _ = pid
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._root}/data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED:  # torch compresses code only
                raise pickle.UnpicklingError(f"storage {key!r} is compressed")
            data = bytearray(self._archive.read(entry))  # checked by its CRC
            self._storages[key] = (
                torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            )
        if self._storages[key].dtype != dtype:
            raise pickle.UnpicklingError(f"storage {key!r} is of two types")
        return self._storages[key]

    def _tensor(
        self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        if math.prod(size) > storage.numel():  # strides of 0 would repeat numbers
            raise pickle.UnpicklingError(f"a tensor of {size} does not fit into its storage")
        return storage.as_strided(size, stride, offset)

    def _first(self, value: Any, *_: Any) -> Any:
        return value
