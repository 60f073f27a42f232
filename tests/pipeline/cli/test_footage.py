"""Commands about footage pass their options on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.footage import write_coding
from vadpipe.data_manifests.record import ManifestError
from vadpipe.data_manifests.table import read_manifest
from vadpipe.pipeline.cli.main import cli


def test_a_limit_refuses_a_file_before_it_is_extracted(tmp_path: Path) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    write_coding("h264-closed-mp4", footage, 20)
    manifest, cache = tmp_path / "m.csv", tmp_path / "cache"
    run = CliRunner()
    assert (
        run.invoke(cli, ["manifest", "footage", str(footage), "-o", str(manifest)]).exit_code == 0
    )
    call = ["extract", str(manifest), "-e", "null", "--cache", str(cache)]
    refused = run.invoke(cli, [*call, "--limit", "bytes=10"])
    assert refused.exit_code == 3 and "OverLimit" in refused.output
    assert not list(cache.glob("features/*/shards/*"))
    assert "1 shard written: 1 video is complete" in run.invoke(cli, call).output


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["ucsd_ped", "."], "no data set 'ucsd_ped'; there are: .*; did you mean 'ucsd_ped2'"),
        (
            ["ucsd_ped2", ".", "--set", "subsets=true"],
            "ucsd_ped2 has no option subsets; it has: subset, weak; did you mean 'subset'",
        ),
    ],
)
def test_a_typo_in_a_data_set_is_answered(arguments: list[str], answer: str) -> None:
    done = CliRunner().invoke(cli, ["manifest", *arguments, "-o", "m.csv"])
    assert isinstance(done.exception, ManifestError)
    assert re.search(answer, str(done.exception))


def test_one_manifest_of_several_folders(tmp_path: Path) -> None:
    for name in ("quiet/a.mp4", "quiet/a.lrv", "new/b.mp4", "more/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    quiet, new, more = (str(tmp_path / name) for name in ("quiet", "new", "more"))
    out = tmp_path / "m.csv"

    def listed(*words: str) -> list[tuple[str, str, int | None]]:
        done = CliRunner().invoke(cli, ["manifest", "footage", *words, "-o", str(out)])
        assert done.exit_code == 0, done.output + str(done.exception)
        return [(r.video_id, r.split, r.label) for r in read_manifest(out).records]

    assert listed("--normal", quiet, "--test", new, "--exclude", "*.lrv") == [
        ("quiet__a.mp4", "train", 0),
        ("new__b.mp4", "test", None),
    ]
    assert listed(new, more, "--label", "abnormal", "--split", "test") == [
        ("new__b.mp4", "test", 1),
        ("more__c.mp4", "test", 1),
    ]
    assert listed(new, "--label", "normal") == [("b.mp4", "all", 0)]
    kept = listed(new, quiet, "--set", "exclude='*.lrv'")
    assert kept == [("new__b.mp4", "all", None), ("quiet__a.mp4", "all", None)]
    for words in (["--split", "test"], ["--label", "normal"], ["--train-fraction", "0.6"]):
        both = ["manifest", "footage", "--normal", quiet, "--test", new, *words, "-o", str(out)]
        done = CliRunner().invoke(cli, both)
        assert done.exit_code == 2 and "for the folders of ROOT" in done.output
    by_set = ["manifest", "footage", "--normal", quiet, "--set", "split=test", "-o", str(out)]
    assert "for the folders of ROOT" in str(CliRunner().invoke(cli, by_set).exception)
    (tmp_path / "empty").mkdir()
    words = ["manifest", "footage", quiet, str(tmp_path / "empty"), "-o", str(out)]
    partly = CliRunner().invoke(cli, words)
    assert partly.exit_code == 3 and len(read_manifest(out).records) == 1
    for words in (["--exclude", "x"], ["--label", "normal"], [new], ["--normal", new]):
        done = CliRunner().invoke(cli, ["manifest", "ucsd_ped2", quiet, *words, "-o", str(out)])
        assert done.exit_code == 2 and "for the data set footage" in done.output


def test_extractors_read_a_feature_set_in_place_of_footage(tmp_path: Path) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    write_coding("h264-closed-mp4", footage, 20)
    manifest, cache = tmp_path / "m.csv", tmp_path / "cache"
    run = CliRunner()
    run.invoke(cli, ["manifest", "footage", str(footage), "-o", str(manifest)])

    def extract(*words: str) -> tuple[int, str]:
        done = run.invoke(cli, ["extract", str(manifest), "--cache", str(cache), *words])
        return done.exit_code, done.output + str(done.exception or "")

    code, text = extract("-e", "null", "--from", "frames")
    assert code == 1 and "needs one feature set 'frames', has none" in text
    assert "1 shard written" in extract("-e", "null")[1]
    code, text = extract("-e", "null", "--from", "null")
    assert code == 1 and "null keeps no pixels. Extractors that keep pixels: frames" in text
    pixels = ("-e", "frames", "--set", "size=[8, 8]")
    assert "1 shard written" in extract(*pixels, "--max-bytes", "100000")[1]
    code, text = extract("-e", "null", "--from", "frames", "--dry-run")
    assert code == 0 and "1 video," in text and "1 shard," in text
    code, text = extract("-e", "null", "--from", "frames", "--set", 'perturb={kind = "noise"}')
    assert code == 0 and "1 shard written: 1 video is complete" in text
    next(cache.glob("features/frames-*/shards/*/*/*.h5")).unlink()
    code, text = extract("-e", "null", "--from", "frames")
    assert code == 3 and "MissingSource" in text and "0 videos are complete" in text
    code, text = extract("-e", "null", "--from", "frames", "--dry-run")
    assert code == 0 and "the source of 1 video lacks frames: frames-" in text
