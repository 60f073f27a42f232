"""TorchScript archives: the same state as torch's own loader gives, and nothing of them is run."""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.extractors.weights.read import read_arrays
from vadpipe.extractors.weights.torchscript import is_torchscript, read_torchscript

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:")


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.names = ["a", "b"]  # a typed list in the archive
        self.linear = nn.Linear(2, 3).half()
        self.scale = nn.Parameter(torch.rand(3, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.half()).float() * self.scale


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Part(), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
        self.register_buffer("resolution", torch.tensor(224))
        self.register_buffer("empty", torch.empty(0, 4))
        self.register_buffer("turned", torch.rand(4, 6).T[1:])  # with strides and an offset

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "whole.pt"
    torch.jit.save(torch.jit.script(Whole().eval()), path)
    return path


@pytest.mark.parametrize("traced", [False, True])
def test_the_state_is_that_of_torch(tmp_path: Path, traced: bool) -> None:
    module, path = Whole().eval(), tmp_path / "whole.pt"
    script = torch.jit.trace(module, torch.rand(5, 2)) if traced else torch.jit.script(module)
    torch.jit.save(script, path)
    assert is_torchscript(path)
    found, expected = read_torchscript(path), torch.jit.load(path).state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def test_read_arrays_gives_float32(archive: Path) -> None:
    arrays, expected = read_arrays(archive), torch.jit.load(archive).state_dict()
    assert set(arrays) == set(expected)
    weight = arrays["blocks.0.linear.weight"]
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, expected["blocks.0.linear.weight"].float().numpy())
    assert arrays["resolution"] == 224


def test_a_file_of_torch_save_is_none(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "state.pt")
    assert not is_torchscript(tmp_path / "state.pt")


def test_its_code_is_not_even_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_torchscript(archive)
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for entry in old.infolist():
            code = "/code/" in entry.filename or entry.filename.endswith("constants.pkl")
            new.writestr(entry, b"no code" if code else old.read(entry))
    with pytest.raises(RuntimeError):
        torch.jit.load(tmp_path / "b.pt")
    monkeypatch.delattr(torch.jit, "load")
    found = read_torchscript(tmp_path / "b.pt")
    assert list(found) == list(expected)


# ---------------------------------------------------------------------------------- hostile


class Net:
    """Pickles as an instance of a class that an archive defines."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


Net.__module__ = "__torch__"


class Storage:
    def __init__(self, key: str = "0", kind: Any = torch.FloatStorage, size: int = 6) -> None:
        self.pid = "storage", kind, key, "cpu", size


class Rebuilt:
    """Pickles as a tensor of a storage."""

    def __init__(
        self,
        size: tuple[int, ...] = (2, 3),
        stride: tuple[int, ...] = (3, 1),
        offset: Any = 0,
        storage: Storage | None = None,
    ) -> None:
        self.call = storage or Storage(), offset, size, stride, False, OrderedDict()

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.call


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.pid if isinstance(value, Storage) else None


SIX = np.arange(6, dtype="<f4")


def write(
    path: Path,
    tree: Any,
    *,
    order: bytes = b"little",
    compression: int = zipfile.ZIP_STORED,
    roots: tuple[str, ...] = ("net",),
    many: int = 0,
) -> Path:
    module = ModuleType("__torch__")
    module.Net = Net  # type: ignore[attr-defined]
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__torch__", module)
        Pickler(stream, 2).dump(tree)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for root in roots:
            archive.writestr(f"{root}/data.pkl", stream.getvalue())
            archive.writestr(f"{root}/constants.pkl", b"\x80\x02).")
            archive.writestr(f"{root}/byteorder", order)
            archive.writestr(f"{root}/data/0", SIX.tobytes())
            archive.writestr(f"{root}/data/1", bytes(4 * many))
    return path


def test_what_the_hostile_files_below_are_made_of(tmp_path: Path) -> None:
    tree = Net(a=Rebuilt(), part=Net(b=Rebuilt((2,), (2,), 3)), training=True, none=None)
    found = read_torchscript(write(tmp_path / "net.pt", tree))
    assert list(found) == ["a", "part.b"]
    np.testing.assert_array_equal(found["a"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(found["part.b"], SIX[[3, 5]])


def circular() -> Net:
    net = Net(a=Rebuilt())
    net.__dict__["again"] = net
    return net


def test_a_module_is_walked_through_once(tmp_path: Path) -> None:
    """Also where many paths lead to it: a ladder of 60 steps has 2^60 of them."""
    assert list(read_torchscript(write(tmp_path / "circular.pt", circular()))) == ["a"]
    ladder = Net(a=Rebuilt())
    for _ in range(60):
        ladder = Net(left=ladder, right=ladder)
    assert len(read_torchscript(write(tmp_path / "ladder.pt", ladder))) == 1


@pytest.mark.parametrize(
    "tree",
    [
        Net(a=Rebuilt((1 << 20, 1 << 20), (0, 0))),
        Net(a=Rebuilt((2, 3), (4, 1))),
        Net(a=Rebuilt((2, 3), (3, 1), 1)),
        Net(a=Rebuilt((2, 3), (3, 1), -1)),
        Net(a=Rebuilt((2, 3), (-3, 1), 3)),
        Net(a=Rebuilt((2, 3), (3, 1), "0")),
        Net(a=Rebuilt(storage=Storage("2"))),
        Net(a=Rebuilt(storage=Storage("../data.pkl"))),
        Net(a=Rebuilt(), b=Rebuilt((3,), (1,), storage=Storage(kind=torch.DoubleStorage))),
        Net(a=Rebuilt(storage=Storage(kind=int))),
        {"a": Rebuilt()},
        [1, 2],
        None,
    ],
    ids=[
        "repeated",
        "beyond the end",
        "offset",
        "before the start",
        "backwards",
        "no number",
        "missing",
        "elsewhere",
        "two types",
        "no type",
        "a dict",
        "a list",
        "nothing",
    ],
)
def test_hostile_tensors(tmp_path: Path, tree: Any) -> None:
    with pytest.raises(WeightsError, match="cannot read weights"):
        read_arrays(write(tmp_path / "net.pt", tree))


def test_archives_that_unpack_to_far_more_are_refused_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pt", Net())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data/9", bytes(1 << 24))
    with pytest.raises(WeightsError, match="unpacks to far more than its size"):
        read_arrays(path)


def test_storages_may_be_shared_but_not_multiplied(tmp_path: Path) -> None:
    for times in (2, 1000):
        tensors = {
            f"a{i}": Rebuilt((9999,), (1,), 0, Storage("1", size=9999)) for i in range(times)
        }
        path = write(tmp_path / f"{times}.pt", Net(**tensors), many=9999)
        if times == 2:
            assert len(read_torchscript(path)) == 2
        else:
            with pytest.raises(WeightsError, match="far larger than the file"):
                read_arrays(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda marker: Call(os.system, f"touch {marker}"),
        lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"),
        lambda marker: Call(Path.touch, marker),
        lambda marker: Call(torch.load, str(marker)),
        lambda marker: Call(torch._utils._rebuild_parameter, None, True, None),
        lambda marker: nn.Linear(1, 1),
    ],
    ids=["system", "eval", "method", "torch.load", "parameter", "module"],
)
def test_calls_are_refused(tmp_path: Path, make: Any) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path / "net.pt", Net(a=Rebuilt(), evil=make(marker)))
    with pytest.raises(WeightsError, match=r"it asks for .*, which weights do not need"):
        read_arrays(path)
    assert not marker.exists()


def test_other_archives_are_refused(tmp_path: Path) -> None:
    tree, path = Net(a=Rebuilt()), tmp_path / "net.pt"
    for options, message in [
        ({"order": b"big"}, "big-endian"),
        ({"compression": zipfile.ZIP_DEFLATED}, "is compressed"),
        ({"roots": ("a", "b")}, "cannot read weights"),
    ]:
        with pytest.raises(WeightsError, match=message):
            read_arrays(write(path, tree, **options))  # type: ignore[arg-type]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(position=st.integers(0, 100_000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_archives_raise_one_error(
    tmp_path: Path, position: int, value: int, cut: bool
) -> None:
    path = write(tmp_path / "net.pt", Net(a=Rebuilt(), part=Net(b=Rebuilt((2,), (2,), 3))))
    data = bytearray(path.read_bytes())
    position %= len(data)
    data[position] = value
    path.write_bytes(data[:position] if cut else data)
    try:
        arrays = read_arrays(path)
    except WeightsError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
