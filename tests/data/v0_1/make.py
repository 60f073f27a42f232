"""Make this folder: a cache, models and score folders as vadpipe 0.1.0 writes them.

Run it with version 0.1.0 only; what later versions have to read is what that version wrote.

    git checkout COMMIT_OF_0.1.0 && python -m tests.data.v0_1.make
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from tests.stored import describe_models, describe_probe, describe_scores, describe_stores
from vadpipe.data_manifests import Manifest, read_manifest, write_manifest
from vadpipe.data_manifests.record import VideoRecord
from vadpipe.extractors.video import DecoderCrash
from vadpipe.pipeline import quarantine
from vadpipe.pipeline.cli import cli

HERE = Path(__file__).resolve().parent
BUILD = Path("/tmp/vadpipe-0.1.0")  # its path is in the files; it is gone when they are read
HEIGHT, WIDTH = 48, 64
KEPT = ("footage", "features", "cache", "scores")

# Everything the fixture is made with; the tests use the same settings again.
STEPS = {
    "extract_null": "extract weak.csv -e null --span-frames 64",
    "extract_patches": (
        "extract normal.csv -e patch_cubes --weights random:0 --precision fp32 "
        "--set 'frame_size=[48, 64]' --set 'patch_sizes=[[48, 32]]' "
        "--set clip_length=24 --set stride=24 --span-frames 64"
    ),
    "extract_frames": (
        "extract frames.csv -e frames --set stride=8 --set 'size=[6, 8]' --max-bytes 100000"
    ),
    "import": "import weak.csv features --name others --origin drawn",
    "train_knn_patch": "train knn normal.csv --set role=patch",
    "train_knn_null": "train knn normal.csv --features snippet={null}",
    "train_mil_ranking": (
        "train mil_ranking weak.csv --features snippet=others --set steps=3 --set batch_size=2 "
        "--set segments=4 --holdout 0.4"
    ),
    "score_knn_patch": "score {knn_patch} normal.csv -o scores/knn_patch",
    "score_knn_null": "score {knn_null} weak.csv -o scores/knn_null --quantile 0.9",
    "score_mil_ranking": "score {mil_ranking} weak.csv -o scores/mil_ranking",
}
COMMANDS = {step: shlex.split(text) for step, text in STEPS.items()}
CODES = {"extract_patches": 3, "score_knn_patch": 3}  # one broken video, one in quarantine


def frame(number: int, *, seed: int, fast: range) -> NDArray[np.uint8]:
    """A still background and a slow square; in the frames of `fast` also a large fast one."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.stack([60 + rows, 60 + columns, 90 + (rows + columns) // 2], axis=2)
    x, y = (number // 2 + int(rng.integers(40))) % (WIDTH - 6), int(rng.integers(30))
    picture[y : y + 10, x : x + 6] = rng.integers(0, 120, 3)
    if number in fast:
        x = 5 * number % (WIDTH - 16)
        picture[8:40, x : x + 16] = (250, 240, 30)
    return picture.astype(np.uint8)


def write_clip(path: Path, frames: int, *, seed: int, fast: range = range(0)) -> None:
    """An MP4 file, or a folder of JPEG files where the path has no suffix."""
    pictures = [frame(i, seed=seed, fast=fast) for i in range(frames)]
    if not path.suffix:
        path.mkdir(parents=True)
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(path / f"{i:03d}.jpg", quality=60)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"crf": "24", "preset": "medium", "threads": "1", "bf": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = HEIGHT, WIDTH
        stream.pix_fmt, stream.gop_size = "yuv420p", 12
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_footage(root: Path) -> list[VideoRecord]:
    """The clips and their records, with two that fail in `normal.csv`."""
    clips: list[tuple[str, int, range | None, dict[str, Any]]] = [
        ("train/calm.mp4", 48, None, {"label": 0}),
        ("train/still", 28, None, {"label": 0}),
        ("train/chase.mp4", 48, range(10, 40), {"label": 1, "category": "Chase"}),
        ("test/long.mp4", 90, range(0), {"label": 0}),
        ("test/race.mp4", 48, range(16, 32), {"label": 1, "category": "Race"}),
        ("test/locked.mp4", 16, None, {}),
        ("test/broken.mp4", 0, None, {}),
    ]
    records = []
    for seed, (path, frames, fast, known) in enumerate(clips):
        if frames:
            write_clip(root / path, frames, seed=seed, fast=fast or range(0))
        else:
            (root / path).write_bytes(b"this is no video\n")
        split, name = path.split("/")
        fields: dict[str, Any] = {"video_id": Path(name).stem, "path": path, "split": split}
        fields |= {"scene": "square", **known}
        if frames and known:
            fields["expected_frames"] = frames
        if split == "test" and fast is not None:
            fields["anomalies"] = ((fast.start, fast.stop),) if fast else ()
        records.append(VideoRecord.model_validate(fields))
    return records


def write_manifests(records: list[VideoRecord]) -> None:
    """Each as Parquet, and as CSV with a relative root as people may write it."""
    chosen = {
        "normal": [r for r in records if r.video_id != "chase"],
        "weak": [r for r in records if r.video_id not in ("locked", "broken")],
        "frames": [r for r in records if r.video_id == "race"],
    }
    for name, few in chosen.items():
        listed = Manifest(dataset="tiny", root=str(BUILD / "footage"), records=tuple(few))
        write_manifest(listed, Path(f"{name}.parquet"))
        write_manifest(listed, Path(f"{name}.csv"))
        text = Path(f"{name}.csv").read_text(encoding="utf-8")
        text = text.replace(f"#root,{BUILD}/footage", "#root,footage")
        Path(f"{name}.csv").write_text(text, encoding="utf-8")


def write_features(records: list[VideoRecord]) -> None:
    """Features of others: eight numbers for each snippet of 16 frames."""
    Path("features").mkdir()
    rng = np.random.default_rng(0)
    for record in records:
        if record.expected_frames is not None:
            rows = rng.random((-(-record.expected_frames // 16), 8), np.float32)
            rows[1:2] += 2 * (record.label or 0)
            np.save(f"features/{record.video_id}.npy", rows)


def run(arguments: list[str], code: int = 0) -> str:
    """Run one command and return what it prints."""
    sys.argv = ["vadpipe", *arguments]  # noted in run.json and in the journal
    result = CliRunner().invoke(cli, [*arguments, "--cache", "cache"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def forget_the_machine() -> None:
    """Remove facts about this machine that no command reads, and the large pages."""
    for path in Path("cache/runs").glob("*.json"):
        values = json.loads(path.read_text(encoding="utf-8"))
        values |= {"host": "example", "pid": 1}
        words = values["name"].split("-")
        values["name"] = f"{words[0]}-example-1-{words[-1]}"
        path.with_name(f"{values['name']}.json").write_text(json.dumps(values), encoding="utf-8")
        path.unlink()
    for path in (*Path("scores").glob("*/report.html"), *Path("scores").glob("*/.lock")):
        path.unlink()
    shutil.rmtree("cache/models/unfinished", ignore_errors=True)
    leftover = [p for p in Path().rglob("*") if p.is_file() and socket.gethostname() in p.name]
    assert not leftover, leftover


def main() -> None:
    """Make everything in BUILD, then put it here."""
    assert version("vadpipe") == "0.1.0", "this is the record of version 0.1.0"
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir()
    os.chdir(BUILD)
    records = write_footage(Path("footage"))
    write_manifests(records)
    write_features(records)
    run(["probe", "normal.csv"], code=3)
    run(["probe", "weak.csv"])
    names = {}
    rows = [row for p in Path("cache/probe").glob("*.parquet") for row in _rows(p)]
    (row,) = (row for row in rows if row["path"].endswith("locked.mp4"))
    error = DecoderCrash(f"{row['path']}: the decoding process died (signal 11)")
    quarantine.add(Path("cache"), row["content_id"], row["path"], error)
    for step, command in COMMANDS.items():
        said = run([word.format(**names) for word in command], CODES.get(step, 0))
        verb, _, what = step.partition("_")
        if verb in ("extract", "train"):
            names[what] = Path(said.split()[0]).name
    forget_the_machine()
    expected = {
        "version": version("vadpipe"),
        "names": names,
        "ls": run(["cache", "ls"]).splitlines(),
        "quarantine": run(["cache", "quarantine"]).splitlines(),
        "runs": json.loads(run(["status", "--json", "--last", "100"]))["runs"],
        "probe": describe_probe(Path("cache")),
        "stores": describe_stores(Path("cache")),
        "models": describe_models(Path("cache")),
        "scores": {out.name: describe_scores(out) for out in sorted(Path("scores").iterdir())},
        "manifests": {
            name: read_manifest(Path(f"{name}.csv")).digest for name in ("normal", "weak", "frames")
        },
        "commands": COMMANDS,
        "codes": CODES,
    }
    for name in KEPT:
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(name, HERE / name)
    for path in (*Path().glob("*.csv"), *Path().glob("*.parquet")):
        shutil.copy(path, HERE)
    text = json.dumps(expected, indent=1, sort_keys=True)
    (HERE / "expected.json").write_text(text + "\n", encoding="utf-8")


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


if __name__ == "__main__":
    main()
