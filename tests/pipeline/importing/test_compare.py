"""Compare: every kind of difference is made on purpose, found, and said in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vadpipe.data_manifests import Manifest, VideoRecord, write_manifest
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.import_features import import_features
from vadpipe.pipeline.importing.compare import (
    FLIPS_SWAPPED,
    CompareError,
    VideoDifference,
    compare_features,
    difference,
    summarise,
)
from vadpipe.pipeline.probe import probe_files

N, CROPS, WIDTH = 12, 10, 64


def features(seed: int = 0, n: int = N, crops: int = CROPS) -> NDArray[np.float32]:
    """As networks give them: rows of a video share much, and so do the crops of a row."""
    rng = np.random.default_rng(seed)
    video = rng.normal(size=WIDTH)
    rows = video + 0.7 * rng.normal(size=(n, 1, WIDTH))
    return (rows + 0.7 * rng.normal(size=(n, crops, WIDTH))).astype(np.float32)


def said(change: Callable[[NDArray[Any]], NDArray[Any]], role: str = "snippet") -> list[str]:
    """The summary of three videos and their changed copies."""
    found = []
    for seed in range(3):
        x = features(seed)
        found.append(difference(f"v{seed}", role, x, change(x), features(seed + 7)))
    return summarise(found)


def brute_force(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    return np.array(
        [
            [
                float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
                for a, b in zip(row_a, row_b, strict=True)
            ]
            for row_a, row_b in zip(x.astype(np.float64), y.astype(np.float64), strict=True)
        ]
    )


def test_cosines_are_those_of_the_definition() -> None:
    x, y = features(0), features(1)
    found = difference("v", "snippet", x, y)
    cosines = brute_force(x, y)
    assert found.cosine_mean == pytest.approx(cosines.mean(), abs=1e-9)
    assert found.cosine_min == pytest.approx(cosines.min(), abs=1e-9)
    assert found.norm_a == pytest.approx(np.linalg.norm(x, axis=2).mean(), rel=1e-6)
    assert (found.shape_a, found.dtype_b) == ((N, CROPS, WIDTH), "float32")
    assert found.unrelated is None


def test_equal() -> None:
    assert said(lambda x: x.copy()) == ["equal bit by bit in 3 videos"]


def test_rounding() -> None:
    first, second = said(lambda x: x.astype(np.float16))
    assert first.startswith("same features up to rounding: cosine 1.0000")
    assert second == "A is float32, B is float16 (3 videos)"


@pytest.mark.parametrize("shift", [-3, -2, -1, 1, 2, 3])
def test_shifts(shift: int) -> None:
    """Row i of A is row i + shift of B, where B starts earlier or later."""
    found = difference("v", "snippet", features(), np.roll(features(), shift, axis=0))
    assert (found.shift, found.order) == (shift, None)
    assert found.best_mean == pytest.approx(1.0) and (found.cosine_mean or 1) < 0.9
    first, second = said(lambda x: np.roll(x, shift, axis=0))
    assert first.startswith("same features up to rounding")
    rows = "1 row" if abs(shift) == 1 else f"{abs(shift)} rows"
    sign = "+" if shift > 0 else "-"
    assert second == (
        f"shifted by {rows} in 3 of 3 videos: row i of A is row i {sign} {abs(shift)} of B"
    )


def test_a_lost_first_row_is_a_shift() -> None:
    lines = said(lambda x: x[1:])
    assert lines[1].startswith("shifted by 1 row in 3 of 3 videos: row i of A is row i - 1 of B")
    assert lines[2] == "other numbers of rows in 3 of 3 videos; most often B has -1"


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(CROPS)), shift=st.integers(-3, 3))
def test_order_and_shift_together(order: list[int], shift: int) -> None:
    x = features()
    y = np.empty_like(x)
    y[:, order] = x  # position i of A is position order[i] of B
    found = difference("v", "snippet", x, np.roll(y, shift, axis=0))
    assert found.shift == shift
    assert (found.order or tuple(range(CROPS))) == tuple(order)
    assert found.best_mean == pytest.approx(1.0) and found.best_min == pytest.approx(1.0)


def test_flips_swapped() -> None:
    lines = said(lambda x: x[:, list(FLIPS_SWAPPED)])
    assert lines[1] == (
        "crops in other order: the mirrored half comes first on one side (3 of 3 videos)"
    )


def test_patches_column_by_column() -> None:
    order = np.arange(6).reshape(2, 3).T.reshape(-1)
    x = features(crops=6)
    found = difference("v", "patch/2x3", x, x[:, order])
    (_, line) = summarise([found])
    assert line == "patches in other order: those of A are 0, 2, 4, 1, 3, 5 of B (1 of 1 videos)"


def test_normalised_and_scaled() -> None:
    def unit(x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))

    assert said(unit)[1:] == ["B is L2-normalised, A is not"]
    assert said(lambda x: unit(x).astype(np.float16))[1] == "B is L2-normalised, A is not"
    assert said(lambda x: 255 * x)[1:] == ["other scale: B is 255 times A"]
    one = unit(features())
    assert summarise([difference("v", "snippet", one, one + 1e-4)])[1:] == []


def test_another_network() -> None:
    first, *others = said(lambda x: features(50))
    assert first.startswith("different network or preprocessing: cosine ") and not others
    assert "(unrelated videos: " in first
    (line,) = said(lambda x: x[..., :32])
    assert line == "different network: 64 numbers a row in A, 32 in B (3 of 3 videos)"


def test_another_decoder() -> None:
    noise = np.random.default_rng(0).normal(size=(N, CROPS, WIDTH)).astype(np.float32)
    (line,) = said(lambda x: x + 0.1 * noise)
    assert line.startswith("close: cosine 0.99")


def test_other_numbers_of_crops_are_compared_by_their_means() -> None:
    lines = said(lambda x: x.mean(axis=1))
    assert lines[0].startswith("same features up to rounding")
    assert "A has (10,) crops or patches, B none: means are compared (3 videos)" in lines


def test_noise_is_no_shift_and_no_order() -> None:
    """Where nothing fits, the best of seven shifts is not worth a word."""
    for seed in range(20):
        found = difference("v", "snippet", features(seed), features(seed + 100))
        assert (found.shift, found.order) == (0, None)


def test_rows_of_zeros() -> None:
    x = features()
    x[3] = 0
    found = difference("v", "snippet", x, x * 2)
    assert found.cosine_min == pytest.approx(1.0)


def test_one_row() -> None:
    x = features(n=1)
    found = difference("v", "snippet", x, x[:, list(FLIPS_SWAPPED)])
    assert (found.shift, found.order) == (0, FLIPS_SWAPPED)


# ------------------------------------------------------------------------------------ sides


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Three videos; `one` and `two` in the cache (shifted), `files` with two of them."""
    monkeypatch.chdir(tmp_path)
    records = tuple(VideoRecord(video_id=f"v{i}", path=None, split="test") for i in range(3))
    manifest = Manifest(dataset="toy", root=str(tmp_path), records=records)
    write_manifest(manifest, tmp_path / "m.csv")
    for name in ("one", "two", "files"):
        (tmp_path / f"{name}_npy").mkdir()
    for i in range(3):
        x = features(i)
        np.save(tmp_path / "one_npy" / f"v{i}.npy", x)
        np.save(tmp_path / "two_npy" / f"v{i}_i3d.npy", np.roll(x, 1, axis=0))
        if i:
            np.save(tmp_path / "files_npy" / f"v{i}.npy", x)
    for name in ("one", "two"):
        sources = [tmp_path / f"{name}_npy"]
        probed = probe_files(manifest, tmp_path / "cache")
        import_features(manifest, probed, sources, tmp_path / "cache", name=name)
    return manifest


def test_two_sets_of_the_cache(toy: Manifest, tmp_path: Path) -> None:
    done = compare_features(tmp_path / "cache", "one", "two")
    assert len(done.videos) == 3 and (done.only_a, done.only_b) == (0, 0)
    assert [v.shift for v in done.videos] == [1, 1, 1]
    assert done.videos[0].unrelated is None and done.videos[1].unrelated is not None
    assert done.summary["snippet"][1].startswith("shifted by 1 row in 3 of 3 videos")
    names = [compare_features(tmp_path / "cache", "one", "one").a, done.b]
    again = compare_features(tmp_path / "cache", names[0], names[1][:-2], manifest=toy, probed=None)
    assert again.summary == done.summary


def test_files_on_one_side(toy: Manifest, tmp_path: Path) -> None:
    probed = probe_files(toy, tmp_path)
    done = compare_features(tmp_path / "cache", "one", "files_npy", manifest=toy, probed=probed)
    assert done.summary == {"snippet": ["equal bit by bit in 2 videos"]}
    assert [v.video_id for v in done.videos] == ["v1", "v2"]
    assert (done.only_a, done.only_b) == (1, 0)
    with pytest.raises(CompareError, match="--manifest"):
        compare_features(tmp_path / "cache", "one", "files_npy")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("three", "neither a path nor a feature set of .*: imported-.*, imported-"),
        ("imported-", "may be any of imported-.*: write more"),
    ],
)
def test_names_that_are_wrong(toy: Manifest, tmp_path: Path, name: str, match: str) -> None:
    with pytest.raises(CompareError, match=match):
        compare_features(tmp_path / "cache", "one", name)


def test_a_name_that_is_a_path_too(toy: Manifest, tmp_path: Path) -> None:
    (tmp_path / "two_npy").rename(tmp_path / "one")
    with pytest.raises(CompareError, match=r"write \./one for the path"):
        compare_features(tmp_path / "cache", "one", "two")
    probed = probe_files(toy, tmp_path)
    done = compare_features(tmp_path / "cache", "./one", "two", manifest=toy, probed=probed)
    assert done.summary == {"snippet": ["equal bit by bit in 3 videos"]}


def test_nothing_in_common(toy: Manifest, tmp_path: Path) -> None:
    record = VideoRecord(video_id="v0", path=None, split="test")
    other = Manifest(dataset="other", root=str(tmp_path), records=(record,))
    sources, cache = [tmp_path / "one_npy" / "v0.npy"], tmp_path / "cache"
    import_features(other, probe_files(other, cache), sources, cache, name="third")
    with pytest.raises(CompareError, match=r"no video is in both: imported-.* has 3 \(snippet\)"):
        compare_features(cache, "one", "third")


def test_command_line(toy: Manifest, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["cache", "compare", *arguments, "--cache", "cache"])
        assert result.exit_code == 0, result.output
        return result.stdout

    text = call("one", "two", "--manifest", "m.csv")
    assert "v0\tsnippet\t(12, 10, 64) float32" in text and "shifted by 1 row" in text
    values = json.loads(call("one", "two", "--json"))
    assert [VideoDifference(**v).shift for v in values["videos"]] == [1, 1, 1]


@pytest.mark.data
def test_real_views_of_one_scene(shared: Path) -> None:
    """Two cameras of PETS 2009: the same network, other pictures, nothing shifted."""
    folder = shared / "data" / "pets2009_i3d"
    with (
        np.load(folder / "pets2009-test-view-001.npz") as one,
        np.load(folder / "pets2009-test-view-003.npz") as two,
    ):
        found = [
            difference(str(i), "snippet", one[f"{i:03d}_x"], two[f"{i:03d}_x"]) for i in range(14)
        ]
        itself = difference("0", "snippet", one["005_x"][:-1], one["005_x"][1:])
    assert all(v.cosine_mean is not None and v.cosine_mean < 0.99 for v in found)
    assert {v.order for v in found} == {None}
    assert itself.shift == -1
