"""Random instances of promises, each from a seed.

No result is lost because a listing got shorter; nothing is stored of another file than the one that
was probed; copies of videos move no threshold; the axes of imported features are read rightly or
asked about; a stream takes no more memory than was asked for it; trees of
weights are read or refused. `VADPIPE_SOAK=1` takes many
instances (`make soak`).
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.chain import SIZE
from tests.pipeline.importing.test_axes import opened
from tests.weight_trees import drawn as drawn_weights
from tests.weight_trees import places
from vadpipe.data_manifests import footage
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.footage.decode import FrameReader
from vadpipe.extractors.footage.guarded import LEAST_SLOTS
from vadpipe.extractors.footage.identity import identify
from vadpipe.extractors.footage.video import Frame, ProbeRow, Reading
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.extractors.weights.read import MOST_ARRAYS, read_arrays
from vadpipe.pipeline.engine import retries, span_task
from vadpipe.pipeline.engine.clip_memory import clip_bytes
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.planning import jobs_of, plan_videos
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.importing.axes import read_axes
from vadpipe.pipeline.importing.files import FeatureFileError
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.score import score_footage
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.store.failures import Failure
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.train import train_detector

SOAK = os.environ.get("VADPIPE_SOAK") == "1"
N = 24  # frames of a video
ENGINE = Engine(span_frames=8)
NULL = resolve_extractor("null", {"clip_length": 8, "stride": 4})
FRAMES = resolve_extractor("frames", {"size": SIZE})


def seeds(short: int, long: int) -> pytest.MarkDecorator:
    """Instances of a test: a few in the suite, others at each long run."""
    first = random.SystemRandom().randrange(1 << 32) if SOAK else 0
    return pytest.mark.parametrize("seed", range(first, first + (long if SOAK else short)))


def picture(content: bytes, number: int) -> Frame:
    """The frame of a file: noise that its bytes decide."""
    rng = np.random.default_rng([zlib.crc32(content), number])
    return Frame(number, number / 25, rng.integers(0, 256, (*SIZE, 3), np.uint8), False)


def probed_row(path: Path) -> ProbeRow:
    """What a probe says of a file whose pictures are drawn."""
    found = identify(path)
    return ProbeRow(
        str(path), found.content_id, "video", N, False, 25.0, *SIZE, 0, N / 25, "h264", "mov",
        whole_id=found.whole_id, stamp=found.stamp,
    )  # fmt: skip


@dataclass
class Decoder:
    """A decoder that draws what the bytes of a file say at the moment of each frame.

    Attributes:
        changes: frame -> what happens to the file before it is decoded, once.
    """

    changes: dict[int, list[Callable[[], object]]] = field(default_factory=dict)

    def __call__(self, row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        def frames() -> Iterator[Frame]:
            for number in range(start, N):
                for change in self.changes.pop(number, []):
                    change()
                yield picture(Path(row.path).read_bytes(), number)

        return FrameReader(row, frames(), Reading())


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    made = Decoder()
    monkeypatch.setattr(span_task, "guarded_frames", made)
    monkeypatch.setattr(retries, "PAUSE_SECONDS", 0.0)
    return made


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def probe(listed: Manifest) -> Probed:
    """Rows of the files that are there."""
    rows, failures = {}, []
    for record in listed.records:
        assert record.path is not None
        try:
            rows[record.video_id] = probed_row(Path(listed.root) / record.path)
        except OSError as error:
            failures.append(Failure(record.video_id, "probe", "MissingFile", str(error)))
    return Probed(rows, failures)


def trained(cache: Path, listed: Manifest) -> ModelFolder:
    """A model on features of all videos of a manifest."""
    probed = probe(listed)
    assert not extract_features(listed, probed, [NULL], cache, engine=ENGINE).failures
    return ModelFolder(train_detector("knn", listed, probed, cache).folder)


def training(root: Path, names: list[tuple[str, str | None, str]]) -> Manifest:
    """A manifest of normal videos: name, scene, content of the file."""
    records = []
    for name, scene, text in names:
        write(root / name, text)
        records.append(VideoRecord(video_id=name, path=name, split="train", label=0, scene=scene))
    return Manifest(dataset="toy", root=str(root), records=tuple(records))


# --- listings


@dataclass
class Archive:
    """Footage whose files and folders come and go.

    Attributes:
        root: of the footage.
        away: where folders go that are not mounted.
    """

    root: Path
    away: Path
    draw: random.Random

    def folders(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_dir())

    def change(self) -> None:
        """One thing that makes a listing shorter, or longer again."""
        files = sorted(self.root.rglob("*.mp4"))
        folders = self.folders()
        match self.draw.randrange(7):
            case 0 if files:
                self.draw.choice(files).unlink()
            case 1 if folders:
                shutil.rmtree(self.draw.choice(folders))
            case 2 if folders:  # a disk that is not mounted
                folder = self.draw.choice(folders)
                place = self.away / folder.relative_to(self.root)
                shutil.copytree(folder, place, dirs_exist_ok=True)
                for path in folder.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            case 3 if self.away.is_dir():
                shutil.copytree(self.away, self.root, dirs_exist_ok=True)
                shutil.rmtree(self.away)
            case 4:
                number = self.draw.randrange(1000)
                write(
                    self.root / f"cam{self.draw.randrange(3)}" / f"n{number}.mp4", f"new {number}"
                )
            case 5 if files:
                self.draw.choice(files).rename(self.root / f"moved{self.draw.randrange(1000)}.mp4")
            case _:
                (self.root / f"dangling{self.draw.randrange(9)}.mp4").unlink(missing_ok=True)
                (self.root / f"dangling{self.draw.randrange(9)}").mkdir(exist_ok=True)

    def target(self) -> Path:
        """What is scored: mostly all, sometimes a part."""
        parts = [path for path in self.folders() if any(path.rglob("*.mp4"))]
        return self.draw.choice(parts) if parts and self.draw.random() < 0.3 else self.root


@seeds(1, 300)
def test_no_result_is_lost_without_prune(seed: int, tmp_path: Path, decoder: Decoder) -> None:
    draw = random.Random(seed)
    listed = training(tmp_path / "train", [(f"t{i}.mp4", None, f"t{i}") for i in range(3)])
    model, cache = trained(tmp_path / "cache", listed), tmp_path / "cache"
    archive = Archive(tmp_path / "archive", tmp_path / "away", draw)
    for place in ("a", "cam0/b", "cam0/c", "cam1/d", "cam1/deep/e", "cam2/f"):
        write(archive.root / f"{place}.mp4", place)
    folder = ScoreFolder(tmp_path / "out")

    def score(target: Path, **options: bool) -> Any:
        found = footage.build(target)
        return score_footage(
            model.path, found, probe(found), folder.path, cache, engine=ENGINE, **options
        )

    score(archive.root)
    known: dict[str, list[float]] = {}
    for _ in range(4 if not SOAK else 12):
        archive.change()
        try:
            done = score(archive.target())
        except ManifestError:
            continue  # no footage at all: the command says so, and nothing is scored
        now = {v: folder.scores(v)["score"].to_pylist() for v in folder.video_ids()}
        assert known.keys() <= now.keys() and not done.pruned
        assert all(now[v] == scores for v, scores in known.items()), f"seed {seed}"
        table = {row["video_id"] for row in folder.videos()}
        assert table == now.keys(), "every result is in the tables"
        known = now
    try:
        listed = footage.build(archive.root)
    except ManifestError:
        return
    wanted = {record.video_id for record in listed.records}
    gone = known.keys() - wanted
    if 2 * len(gone) > len(known):
        with pytest.raises(ScoreFolderError, match="pruning would delete"):
            score(archive.root, prune=True)
        assert set(folder.video_ids()) >= known.keys()
    else:
        assert set(score(archive.root, prune=True).pruned) == gone


# --- files that change between probe and extraction


@seeds(3, 2000)
def test_nothing_is_stored_of_another_file(seed: int, tmp_path: Path, decoder: Decoder) -> None:
    draw = random.Random(seed)
    a, b = (write(tmp_path / "footage" / f"{name}.mp4", f"bytes of {name}") for name in "ab")
    contents = {probed_row(path).content_id: path.read_bytes() for path in (a, b)}
    probed = Probed({path.stem: probed_row(path) for path in (a, b)})
    listed = Manifest(
        dataset="toy",
        root=str(a.parent),
        records=tuple(VideoRecord(video_id=p.stem, path=p.name, split="test") for p in (a, b)),
    )
    old = {path: path.stat() for path in (a, b)}

    def timed(path: Path) -> None:
        if draw.random() < 0.7:  # the times that it had before
            os.utime(path, ns=(old[path].st_atime_ns, old[path].st_mtime_ns))

    def replaced(path: Path) -> None:
        other = write(tmp_path / "other", f"bytes of {draw.randrange(10)}")
        other.replace(path)
        timed(path)

    def rewritten(path: Path) -> None:
        path.write_bytes(f"bytes of {draw.choice('abcd')}".encode())
        timed(path)

    def exchanged(path: Path) -> None:
        a.rename(tmp_path / "third")
        b.rename(a)
        (tmp_path / "third").rename(b)

    def restored(path: Path) -> None:
        path.write_bytes(contents[probed.rows[path.stem].content_id])
        timed(path)

    def linked(path: Path) -> None:
        path.unlink()
        path.symlink_to(b if path == a else a)

    changes = [replaced, rewritten, exchanged, restored, linked]
    for _ in range(draw.randrange(1, 4)):
        change, path = draw.choice(changes), draw.choice((a, b))
        at = draw.randrange(-4, N)

        def happen(change: Callable[[Path], None] = change, path: Path = path) -> None:
            if a.exists() and b.exists():
                change(path)

        if at < 0:
            happen()
        else:
            decoder.changes.setdefault(at, []).append(happen)
    done = extract_features(
        listed, probed, [FRAMES], tmp_path / "cache", engine=ENGINE, max_bytes=10**9
    )
    (store,) = stores_of([FRAMES], tmp_path / "cache")
    for content, data in contents.items():
        for start, stop, path in store.shards(content):
            with h5py.File(path) as file:
                stored = file["frame/frames"][:]
            expected = [picture(data, number).image for number in range(start, stop)]
            assert np.array_equal(stored, expected), f"seed {seed}: {path} is of another file"
    whole = {row.content_id for row in done.rows.values()}
    assert all(store.read(content).n_frames == N for content in whole)


# --- copies


@seeds(2, 400)
def test_copies_move_no_threshold(seed: int, tmp_path: Path, decoder: Decoder) -> None:
    draw = random.Random(seed)
    scenes = draw.choice([[None], ["x"], ["x", "y"]])
    names = [
        (f"v{i}.mp4", scenes[i % len(scenes)], f"video {i}") for i in range(draw.randrange(3, 6))
    ]
    copied = list(names)
    for number in range(draw.randrange(1, 6)):
        name, scene, text = draw.choice(names)
        after = next(i for i, each in enumerate(copied) if each[0] == name) + 1
        copied.insert(draw.randrange(after, len(copied) + 1), (f"copy{number}.mp4", scene, text))
    alone, with_copies = (
        trained(tmp_path / name, training(tmp_path / f"{name}-footage", videos)).card()
        for name, videos in (("alone", names), ("copies", copied))
    )
    assert with_copies["calibration"] == alone["calibration"], f"seed {seed}: {copied}"
    assert len(with_copies["trained_on"]["copies"]) == len(copied) - len(names)
    assert len(with_copies["contents"]) == len(names)


# --- memory


@seeds(3, 300)
def test_a_stream_takes_no_more_memory_than_was_asked_for(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    height, width, n = draw.randrange(250, 350), draw.randrange(250, 350), draw.randrange(20, 50)
    config = {
        "clip_length": draw.randrange(1, 24),
        "stride": draw.randrange(4, 24),
        "before": draw.choice((0, 0, 2)),  # without them the estimate is close
        "after": draw.choice((0, 0, 2)),
    }
    spec = resolve_extractor("null", config)
    row = ProbeRow(
        "/drawn.mp4", "s1-" + "ab" * 20, "video", n, False, 25.0, height, width, 0, n / 25, "", ""
    )  # fmt: skip

    def reader(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        picture = np.zeros((height, width, 3), np.uint8)
        frames = (Frame(i, i / 25, picture.copy(), False) for i in range(start, n))
        return FrameReader(row, frames, Reading())

    monkeypatch.setattr(span_task, "guarded_frames", reader)
    (store,) = stores_of([spec], tmp_path)
    store.create()
    runtime = Runtime("cpu", 1, 1)
    (plan,) = plan_videos(Probed({"v": row}), [store])
    (job,) = jobs_of(plan, [spec], tmp_path, Engine(), runtime)
    span_task.run_job(job)  # what is imported and kept by the first run does not count
    shutil.rmtree(store.root / "shards")
    tracemalloc.start()
    try:
        span_task.run_job(job)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    not_here = (LEAST_SLOTS - 1) * height * width * 3  # frames of the decoder, but for one
    assert peak < clip_bytes([spec], height, width) - not_here, f"seed {seed}: {config}"


# --- weights


@seeds(20, 5000)
def test_random_trees_of_weights_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """Each place has its array; what has too many, or too large ones, is one error, and soon."""
    tree = drawn_weights(random.Random(seed))
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(tree))
    expected = places(tree)
    try:
        found = read_arrays(path)
    except WeightsError as error:
        size = sum(v.nbytes for v in expected.values()) if expected is not None else 0
        assert expected is None or len(expected) > MOST_ARRAYS or size > 64 << 20, f"{seed} {error}"
        return
    if expected is not None:  # else there are many places and few arrays
        assert found.keys() == expected.keys(), f"seed {seed}"
        assert all(np.array_equal(found[name], expected[name]) for name in found), f"seed {seed}"


# --- axes of imported features


@seeds(40, 20_000)
def test_random_families_are_read_rightly_or_asked_about(seed: int) -> None:
    """Any layout, three videos or more of different lengths, which are known or not.

    One more file may have another layout; the others have to be read rightly all the same.
    """
    draw = random.Random(seed)
    width, crops = draw.choice([17, 32, 64, 512, 2048]), draw.choice([None, 1, 5, 10])
    rows = draw.sample(range(1, 120), draw.randrange(3, 9))
    orders: list[tuple[int, ...]] = [(0, 1), (1, 0)]
    if crops is not None:
        orders = [(0, 1, 2), (1, 0, 2), (1, 2, 0)]
    order = draw.choice(orders)
    axis = order.index(0)
    shapes = []
    for n in rows:
        sizes = (n, width) if crops is None else (n, crops, width)
        shapes.append(tuple(sizes[place] for place in order))
    known = draw.random() < 0.5
    frames = [16 * n - draw.randrange(16) if known else 0 for n in rows]
    files = opened(shapes, frames)
    odd = tuple(draw.sample([32, width, draw.choice([1, 5, 10])], draw.choice([2, 3])))
    (other,) = opened([odd], [512 if known else 0])
    if other.readings() and draw.random() < 0.5:
        files.insert(draw.choice([0, len(files)]), other)
    try:
        read = read_axes(files, None, 16)
    except FeatureFileError as error:
        assert "not certain" in str(error), f"seed {seed}"
        return
    found = [reading for file, reading in zip(files, read, strict=True) if file is not other]
    assert [r.axis for r in found if r is not None] == [axis] * len(rows), f"seed {seed}"
    assert {(r.positions, r.width) for r in found if r is not None} == {(crops or 1, width)}
