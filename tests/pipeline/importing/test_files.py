"""Feature files of others: what is read, and what is refused before memory is taken."""

from __future__ import annotations

import codecs
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.synthetic import write_pets2009
from vadpipe.data_manifests import memory
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.pipeline.importing import files as feature_files
from vadpipe.pipeline.importing.files import FeatureFile, FeatureFileError, find_files


def npy_bytes(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header_bytes(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    data = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(data)) + data


def only(path: Path) -> FeatureFile:
    files, broken = find_files([path])
    assert not broken
    (file,) = files
    return file


ROWS = np.arange(12, dtype=np.float32).reshape(3, 4) / 8


@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [False, True])
def test_kinds_orders_and_archives(tmp_path: Path, kind: str, order: Any, packed: bool) -> None:
    array = np.asarray(ROWS.astype(kind), order=order)
    path = tmp_path / ("a.npz" if packed else "a.npy")
    if packed:
        np.savez_compressed(path, **{"Abuse/x": array})
    else:
        np.save(path, array)
    file = only(path)
    assert file.name == ("x" if packed else "a")
    assert file.label == ("a.npz:Abuse/x" if packed else "a.npy")
    assert file.header().shape == (3, 4)
    values = file.read()
    assert values.dtype == (np.float16 if "2" in kind else np.float32)
    assert np.array_equal(values, ROWS)


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("".join(" ".join(map(str, row)) + " \r\n" for row in ROWS.tolist()) + "\n")
    file = only(path)
    assert file.header().shape == (3, 4)
    assert np.array_equal(file.read(), ROWS) and file.read().dtype == np.float32


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_marks_and_ends_of_lines_of_other_systems(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(mark + end.join([b"1 2", b"3 4", b""]))
    assert FeatureFile(path, "a").read().tolist() == [[1, 2], [3, 4]]


def test_arrays_that_do_not_fit_into_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros pack a thousand to one; a mapped file takes none, unless it is converted."""
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((1000, 64), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((1000, 64), np.float32))
    np.save(tmp_path / "c.npy", np.zeros((1000, 64)))
    np.savetxt(tmp_path / "d.txt", np.zeros((1000, 64)), fmt="%d")
    files, _ = find_files([tmp_path])
    monkeypatch.setattr(memory, "available_bytes", lambda: 255_999)
    for file in files:
        if file.path.suffix == ".npy" and file.header().dtype.itemsize == 4:
            assert file.read().shape == (1000, 64)
        else:
            with pytest.raises(OutOfMemory, match=f"{file.label} needs 256,000 bytes"):
                file.read()


@pytest.mark.parametrize("rows", [2, 4])
def test_a_text_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 2\n" * 3)
    file = only(path)
    header = file.header()
    path.write_text("1 2\n" * rows)
    monkeypatch.setattr(FeatureFile, "header", lambda file: header)
    with pytest.raises(FeatureFileError, match=r"a\.txt: changed while it was read"):
        file.read()


def test_a_line_of_a_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "MAX_LINE_BYTES", 10)
    path = tmp_path / "a.txt"
    path.write_text("1 2\n1 2 3 4 5 6\n")
    with pytest.raises(FeatureFileError, match="a line of more than 10 bytes"):
        FeatureFile(path, "a").header()


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 2\n", encoding="utf-16")
    with pytest.raises(FeatureFileError, match="UTF-16: save it as UTF-8"):
        FeatureFile(path, "a").header()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1 2\n3\n", "line 2: is not 2 numbers"),
        ("1 2\n3 x\n", "line 2: is not 2 numbers"),
        ("1 2\n3 nan\n", "NaN or infinite values, first in row 1"),
        ("1 2\n3 1e60\n", "NaN or infinite values, first in row 1"),
        (" \n\n", "is empty"),
    ],
)
def test_texts_that_are_wrong(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(text)
    with pytest.raises(FeatureFileError, match=match):
        only(path).read()


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2048), }"
SMALL = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (npy_bytes(np.array([[{}]]), allow_pickle=True), "never loaded"),
        (npy_bytes(np.array([[(1.0, {})]], "f4,O"), allow_pickle=True), "never loaded"),
        (npy_bytes(np.zeros((2, 3), np.int64)), "is int64; features are float16"),
        (npy_bytes(np.zeros((2, 3), np.complex64)), "is complex64"),
        (npy_bytes(np.zeros((2, 3), np.longdouble)), "features are float16"),
        (npy_bytes(np.zeros((0, 3), np.float32)), r"is empty: its shape is \(0, 3\)"),
        (npy_bytes(np.float32(1)), "is empty"),
        (npy_bytes(np.array([[1, np.nan]], np.float16)), "first in row 0"),
        (npy_bytes(np.array([[1], [1e39]], np.float64)), "first in row 1"),
        (npy_bytes(ROWS)[:-1], "cut off or damaged"),
        (npy_bytes(ROWS) + b"x", "cut off or damaged"),
        (header_bytes(HUGE), "are more than 8,589,934,592"),
        (header_bytes(SMALL % "(-1, 4)"), "is empty"),
        (header_bytes(SMALL % ("(" * 3000)), "is no npy array"),
        (header_bytes(SMALL % "(3, 4)", (3, 0)), "is no npy array"),
        (b"", "is no npy array"),
        (b"\x80\x04K\x01.", "is no npy array"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_that_are_refused(tmp_path: Path, data: bytes, match: str, packed: bool) -> None:
    path = tmp_path / ("x.npz" if packed else "x.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
    else:
        path.write_bytes(data)
    with pytest.raises(FeatureFileError, match=match):
        only(path).read()


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    array = np.empty((1, 1), dtype=object)
    array[0, 0] = Bomb()
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(FeatureFileError, match="never loaded"):
        only(tmp_path / "x.npy").read()
    assert not (tmp_path / "run").exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)  # the bait does work where nothing forbids it
    assert (tmp_path / "run").exists()


def test_archives_that_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "good.npz", x=ROWS, y=ROWS)
    data = bytearray((tmp_path / "good.npz").read_bytes())
    at = data.index(ROWS.tobytes())
    data[at] ^= 1  # a bit of the first array
    (tmp_path / "bit.npz").write_bytes(data)
    files, broken = find_files([tmp_path / "bit.npz"])
    assert not broken
    with pytest.raises(FeatureFileError, match=r"bit.npz:x: .*CRC"):
        files[0].read()
    assert np.array_equal(files[1].read(), ROWS)
    (tmp_path / "half.npz").write_bytes(data[: len(data) // 2])
    files, broken = find_files([tmp_path])
    assert [p.name for p in broken] == ["half.npz"]
    assert {f.path.name for f in files} == {"good.npz", "bit.npz"}
    monkeypatch.setattr(feature_files, "MAX_MEMBERS", 1)
    _, broken = find_files([tmp_path / "good.npz"])
    assert "has 2 members; refused" in str(broken[tmp_path / "good.npz"])


def test_folders_are_searched_through(tmp_path: Path) -> None:
    for name in ("b/x10.npy", "b/x9.npy", "b/.hidden.npy", ".cache/y.npy", "b/list.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save((tmp_path / name).open("wb"), ROWS)
    files, _ = find_files([tmp_path, tmp_path / "b/x9.npy"])
    assert [f.name for f in files] == ["x9", "x10"]  # natural order, each once
    for source, match in (("gone", "does not exist"), ("b/list.csv", "features come as")):
        with pytest.raises(FeatureFileError, match=match):
            find_files([tmp_path / source])


def test_pets_archives_give_their_features(tmp_path: Path) -> None:
    write_pets2009(tmp_path)
    files, _ = find_files([tmp_path / "pets2009-test-view-003.npz"])
    assert len(files) == 14
    assert files[2].name == "view-003.S2-test--Time-13-02"
    assert files[2].member == "002_x.npy" and files[2].header().shape == (4, 4)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x\udcff.npy"
    np.save(path.open("wb"), ROWS)
    assert only(path).label == "x\\udcff.npy"


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes change, a file gives finite values of its header's shape or a typed error."""
    buffer = io.BytesIO()
    packed = data.draw(st.booleans())
    (np.savez if packed else np.save)(buffer, ROWS)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damage") / ("x.npz" if packed else "x.npy")
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    files, broken = find_files([path])
    assert len(files) <= 1 and len(broken) <= 1
    for file in files:
        try:
            shape = file.header().shape
            values = file.read()
        except FeatureFileError as error:
            assert file.label in str(error)
            continue
        assert values.shape == shape and np.isfinite(values).all()


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=400))
def test_noise_is_no_text_of_numbers_or_a_matrix(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("noise") / "x.txt"
    path.write_bytes(content)
    try:
        values = only(path).read()
    except FeatureFileError:
        return
    assert values.ndim == 2 and np.isfinite(values).all()


@pytest.mark.data
def test_real_texts_are_normalised(shared: Path) -> None:
    folder = shared / "data" / "ucf_crime_c3d" / "sultani_txt_samples"
    files, _ = find_files([folder])
    assert len(files) == 3
    for file in files:
        values = file.read()
        assert values.shape == (32, 4096)
        assert np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "0,5;1,5\n", "1, 2\n"])
def test_text_with_commas_is_not_one_number_a_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(FeatureFileError, match=r"separated by commas .* write spaces"):
        only(tmp_path / "v.txt").header()
