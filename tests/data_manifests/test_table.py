from __future__ import annotations

import csv
import shlex
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vadpipe.data_manifests import table
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.table import SCHEMA, read_manifest, write_manifest

# Everything that a file name may hold, and that spreadsheets and CSV readers stumble over.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)
HARD = st.sampled_from(['a"b', "a,b", " a ", "#x", "=1+1", "normal", "None", "a;b", "\u2028"])
SUFFIXES = pytest.mark.parametrize("suffix", [".parquet", ".csv"])


def _path(text: str) -> str | None:
    try:
        return VideoRecord(video_id="a", path=text, split="all").path
    except ValidationError:
        return None


PATHS = (TEXT | HARD).filter(lambda text: _path(text) == text)


@st.composite
def records(draw: st.DrawFn, video_id: str) -> VideoRecord:
    edges = sorted(draw(st.sets(st.integers(0, 10**6), max_size=6)))
    ranges = tuple(zip(edges[::2], edges[1::2], strict=False))
    anomalies = draw(st.sampled_from([None, (), ranges]))
    start = draw(st.floats(0, 1, exclude_max=True))
    labels = [1, None] if anomalies else [0, 1, None]
    return VideoRecord(
        video_id=video_id,
        path=draw(st.none() | PATHS),
        split=draw(st.sampled_from(["train", "test", "validation", "all"])),
        label=draw(st.sampled_from(labels)),
        scene=draw(st.none() | (TEXT | HARD).filter(str.strip)),
        category=draw(st.none() | (TEXT | HARD).filter(str.strip)),
        expected_frames=draw(st.none() | st.integers(10**6, 10**12)),
        anomalies=anomalies,
        part=(start, draw(st.floats(start, 1, exclude_min=True))),
        masks=draw(st.none() | PATHS),
        tracks=draw(st.none() | PATHS),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    ids = draw(
        st.lists(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}", fullmatch=True), unique=True)
    )
    rows = tuple(draw(records(video_id)) for video_id in ids)
    return Manifest(dataset="any", root="/data/" + draw(TEXT), records=rows)


@SUFFIXES
@settings(deadline=None)  # writes files
@given(manifest=manifests())
def test_what_is_written_is_read(suffix: str, manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_manifest(manifest, Path(folder) / f"m{suffix}")
        back = read_manifest(path)
    assert back == manifest
    assert back.digest == manifest.digest


def example(**fields: Any) -> Manifest:
    first: dict[str, Any] = {"video_id": "a", "path": "a.mp4", "split": "test", "label": 1}
    first |= {"anomalies": ((2, 5), (9, 12)), "expected_frames": 20, **fields}
    second = VideoRecord(video_id="b", path="b.mp4", split="all")
    third = VideoRecord(video_id="c", path="c.mp4", split="train", label=0, anomalies=())
    return Manifest(
        dataset="any", root="/data", records=(VideoRecord.model_validate(first), second, third)
    )


@SUFFIXES
def test_unknown_and_normal_stay_apart(tmp_path: Path, suffix: str) -> None:
    back = read_manifest(write_manifest(example(), tmp_path / f"m{suffix}"))
    assert [r.anomalies for r in back.records] == [((2, 5), (9, 12)), None, ()]


def test_the_csv_is_what_the_documentation_shows(tmp_path: Path) -> None:
    path = write_manifest(example(), tmp_path / "m.csv")
    assert path.read_text(encoding="utf-8").splitlines() == [
        "#dataset,any",
        "#root,/data",
        ",".join(SCHEMA.names),
        "a,a.mp4,test,1,,,20,2..5 9..12,0.0,1.0,,",
        "b,b.mp4,all,,,,,,0.0,1.0,,",
        "c,c.mp4,train,0,,,,normal,0.0,1.0,,",
    ]


def test_the_examples_of_the_documentation_are_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs/manifests.md"
    text = page.read_text(encoding="utf-8").split("```csv\n")[1].split("```")[0]
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [r.anomalies for r in manifest.records] == [(), ((60, 180),), None]
    assert write_manifest(manifest, tmp_path / "again.csv").read_text(encoding="utf-8") == text
    assert table.__doc__ is not None
    assert text.splitlines() == [line[4:] for line in table.__doc__.splitlines()[-6:]]


@SUFFIXES
def test_a_rewritten_file_is_replaced_and_nothing_is_left_over(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new/folder" / f"m{suffix}"
    write_manifest(example(), path)
    write_manifest(example(label=None), path)
    assert read_manifest(path) == example(label=None)
    assert list(path.parent.iterdir()) == [path]


@SUFFIXES
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_manifest(example(), tmp_path / f"m{suffix}")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Path, "replace", _disk_full)
        write_manifest(example(label=None), path)
    assert read_manifest(path) == example()
    assert list(tmp_path.iterdir()) == [path]


def _disk_full(*_: object) -> None:
    raise OSError("disk full")


@SUFFIXES
def test_the_root_can_be_moved(tmp_path: Path, suffix: str) -> None:
    path = write_manifest(example(), tmp_path / f"m{suffix}")
    gone = read_manifest(path)
    with pytest.raises(ManifestError, match="/data of manifest 'any' is not a folder here"):
        gone.resolve("a.mp4")
    here = read_manifest(path, root=tmp_path)
    assert here.resolve("a.mp4") == tmp_path / "a.mp4"
    assert here.digest == gone.digest


@SUFFIXES
def test_a_video_without_footage_has_no_path(tmp_path: Path, suffix: str) -> None:
    path = write_manifest(example(path=None), tmp_path / f"m{suffix}")
    assert [r.path for r in read_manifest(path).records] == [None, "b.mp4", "c.mp4"]


@SUFFIXES
def test_a_file_from_before_there_were_categories_is_read(tmp_path: Path, suffix: str) -> None:
    path = write_manifest(example(), tmp_path / f"m{suffix}")
    if suffix == ".csv":
        lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
        at = lines[2].index("category")
        lines[2:] = [line[:at] + line[at + 1 :] for line in lines[2:]]
        path.write_text("\n".join(map(",".join, lines)), encoding="utf-8")
    else:
        pq.write_table(pq.read_table(path).drop_columns(["category"]), path)
    assert read_manifest(path) == example()


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The example as CSV, with a text replaced."""
    path = write_manifest(example(), tmp_path / "m.csv")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_a_relative_root_counts_from_the_file(tmp_path: Path) -> None:
    path = edited(tmp_path, "#root,/data", "#root,footage")
    assert read_manifest(path).root == str(tmp_path / "footage")


def test_what_a_spreadsheet_makes_of_it_is_read(tmp_path: Path) -> None:
    """A byte order mark, padded rows, CRLF, an empty line, quotes, columns in another order."""
    path = write_manifest(example(), tmp_path / "m.csv")
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    order = list(range(len(SCHEMA.names)))[::-1]
    lines = lines[:2] + [[line[k] for k in order] for line in lines[2:]]
    lines = [[*line, *[""] * (15 - len(line))] for line in [*lines, []]]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(lines)
    assert read_manifest(path) == example()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a,a.mp4,test,1,", "a,a.mp4,test,1.0,", r"row 1, column label: '1\.0' is not a whole"),
        ("a,a.mp4,test,1,", "a,a.mp4,test,3,", r"row 1, column label: Input should be 0 or 1"),
        ("b,b.mp4,all", "b,b.mp4,dev", r"row 2, column split: Input should be"),
        ("b,b.mp4,all", ",b.mp4,all", r"row 2, column video_id: is empty"),
        ("b,b.mp4,all", "b,../b.mp4,all", r"row 2, column path: path '\.\./b\.mp4' must be"),
        ("b,b.mp4,all", "b/b,b.mp4,all", r"row 2, column video_id: video id 'b/b' may only"),
        ("c,c.mp4", "b,c.mp4", r"more than once: b"),
        (
            "2..5",
            "2-5",
            r"row 1, column anomalies: '2-5' is not a frame range: write START\.\.STOP",
        ),
        ("2..5", "5..2", r"row 1, a: anomalies .* are not sorted"),
        ("9..12", "9..21", r"row 1, a: an anomaly ends at frame 21"),
        ("normal,0.0", "normal,x", r"row 3, column part_start: 'x' is not a number"),
        ("normal,0.0", "normal,1.0", r"row 3, c: part"),
        ("normal,0.0,1.0,,", "normal,0.0", r"row 3: has 9 cells, the header has 12"),
        ("normal,0.0,1.0,,", "normal,0.0,1.0,,,x", r"row 3: has 13 cells, the header has 12"),
        (",masks,", ",mask,", r"unknown or repeated columns: mask; missing columns: masks"),
        (",masks,", ",label,", r"unknown or repeated columns: label, label; missing .*: masks"),
        ("#dataset,any", "any", r"must start with the rows '#dataset,NAME'"),
        ("#root,/data", "#root,", r"names no root: write the row .#root,FOLDER"),
        ("#dataset,any", "#dataset,a b", r"column dataset: data set name 'a b'"),
    ],
)
def test_a_bad_csv_is_an_error_that_names_the_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(edited(tmp_path, old, new))


def test_a_csv_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("#dataset,any\n#root,/Überwachung\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="cannot be read as CSV in UTF-8"):
        read_manifest(path)


def test_too_many_anomalies_for_a_csv_cell(tmp_path: Path) -> None:
    many = example(anomalies=tuple((2 * i, 2 * i + 1) for i in range(20_000)), expected_frames=None)
    with pytest.raises(ManifestError, match=r"video a: column anomalies .*write .* as \.parquet"):
        write_manifest(many, tmp_path / "m.csv")
    assert read_manifest(write_manifest(many, tmp_path / "m.parquet")) == many


def altered(tmp_path: Path, name: str, column: pa.Array | None) -> Path:
    """The example as Parquet with another column, or without it."""
    path = write_manifest(example(), tmp_path / "m.parquet")
    rows = pq.read_table(path)
    index = rows.schema.names.index(name)
    rows = rows.drop_columns([name])
    if column is not None:
        rows = rows.add_column(index, name, column)
    pq.write_table(rows, path)
    return path


def test_large_strings_and_wide_integers_are_read_all_the_same(tmp_path: Path) -> None:
    wide = altered(tmp_path, "label", pa.array([1, None, 0], pa.int64()))
    assert read_manifest(wide) == example()
    large = altered(tmp_path, "path", pa.array(["a.mp4", "b.mp4", "c.mp4"], pa.large_string()))
    assert read_manifest(large) == example()


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("label", pa.array([1, 2, 0]), "row 2, column label: Input should be 0 or 1"),
        ("label", pa.array([1, 1000, 0]), "column label: .*1000"),
        ("label", pa.array(["x", "y", "z"]), "column label: "),
        ("split", pa.array(["test", None, "all"]), "row 2, column split: is empty"),
        ("path", None, "missing columns: path"),
        ("anomalies", pa.array([[None], None, None], SCHEMA.field("anomalies").type), "anomalies"),
        ("masks", None, "missing columns: masks"),
    ],
)
def test_a_bad_parquet_is_an_error_that_names_the_place(
    tmp_path: Path, name: str, column: pa.Array | None, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(altered(tmp_path, name, column))


def test_parquet_without_our_metadata_is_an_error(tmp_path: Path) -> None:
    path = write_manifest(example(), tmp_path / "m.parquet")
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(ManifestError, match="no data set name in its metadata"):
        read_manifest(path)


def test_what_is_no_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="write one with `vadpipe manifest`"):
        read_manifest(tmp_path / "gone.csv")
    for call in (lambda p: read_manifest(p), lambda p: write_manifest(example(), p)):
        with pytest.raises(ManifestError, match=r"a \.parquet or a \.csv file, not 'm\.xlsx'"):
            call(tmp_path / "m.xlsx")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no such thing")
    with pytest.raises(ManifestError, match="cannot be read as Parquet"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", ["the archive", "clip.mp4", "odd.csv"])
def test_footage_in_place_of_a_manifest_is_answered_with_the_command_that_lists_it(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"") if name == "clip.mp4" else path.mkdir()
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    said = str(caught.value)
    assert ("is a folder, not a manifest" in said) == path.is_dir()
    words = shlex.split(said.partition("`")[2].partition("`")[0])
    assert words == ["vadpipe", "manifest", "footage", str(path), "-o", f"{name}.parquet"]
