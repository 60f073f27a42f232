"""Every kind of file that the program reads: how a good one is written, and who reads it.

A new kind is one more entry of KINDS. `read` is called with the root of what `write` made; it may
raise what the command line prints as a message, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bags import weak_bags
from tests.chain import video
from tests.pipeline.store.test_feature_store import CONTENT, PROVENANCE, SPEC, make_store
from tests.score_folders import rows, write_score_folder
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.data_manifests.table import read_manifest, write_manifest
from vadpipe.detectors.base import FitLog, Scores
from vadpipe.extractors.base import Rows
from vadpipe.extractors.clips import Span
from vadpipe.extractors.device.tuning import Tuning
from vadpipe.extractors.footage.errors import DecoderHang
from vadpipe.extractors.weights.read import read_arrays
from vadpipe.pipeline.engine import quarantine
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.engine.journal import journal, read_runs
from vadpipe.pipeline.evaluate import evaluate_scores
from vadpipe.pipeline.fuse import fuse_scores
from vadpipe.pipeline.models import ModelFolder, make_detector, source_specs, specs_of_model
from vadpipe.pipeline.repair import repair_cache
from vadpipe.pipeline.report.stage import write_report
from vadpipe.pipeline.review.stage import write_review
from vadpipe.pipeline.run.config import load_run
from vadpipe.pipeline.run.folder import Done, RunFolder
from vadpipe.pipeline.run.listing import result_rows
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.store.feature_sets import chosen_stores, list_stores, unreadable_sets
from vadpipe.pipeline.store.holdings import Holdings, ending_of
from vadpipe.pipeline.store.imported import checksums_of, imported_stores
from vadpipe.pipeline.store.probe_table import load_probes, probe_parts, save_probes
from vadpipe.pipeline.store.shard import VideoFacts, row_of
from vadpipe.pipeline.store.video_rows import StoreRows
from vadpipe.pipeline.tables.listing import model_details, model_lines, models, models_lines


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    Attributes:
        name: of the kind.
        form: json, toml, csv, parquet, hdf5 or safetensors.
        write: writes a good file, and what it needs around it, under a folder; returns its path.
        read: reads it, from the folder.
    """

    name: str
    form: str
    write: Callable[[Path], Path]
    read: Callable[[Path], object]


RECORD = VideoRecord(
    video_id="v", path="v.mp4", split="test", label=1, scene="s", category="A",
    expected_frames=80, anomalies=((8, 24),),
)  # fmt: skip
MANIFEST = Manifest(dataset="tiny", root="/none", records=(RECORD,))


# --- manifests and run files


def _manifest(suffix: str, folder: Path) -> Path:
    return write_manifest(MANIFEST, folder / f"m{suffix}")


def _read_manifest(suffix: str, folder: Path) -> None:
    listed = read_manifest(folder / f"m{suffix}")
    for record in listed.records:
        if record.path is not None:
            listed.resolve(record.path)


RUN = """
out = "out"
cache = "cache"
seed = 3
image_fps = 25.0
[manifest]
file = "m.parquet"
[[extract]]
extractor = "null"
set = { clip_length = 8 }
[[train]]
detector = "knn"
set = { k = 1 }
[engine]
workers = 0
limits = { hours = 3.5 }
[score.events]
quantile = 0.99
"""


def _run_file(folder: Path) -> Path:
    path = folder / "run.toml"
    path.write_text(RUN, encoding="utf-8")
    return path


# --- models


def _model(name: str, folder: Path) -> Path:
    detector = make_detector("knn")
    detector.fit(weak_bags(4), device="cpu", seed=0)
    recipe = resolve_extractor("null").recipe()
    calibration = Calibration((0.0, 1.0), (0.0, 2.0), 1000, 10, "a test")
    card = {
        "features": {"snippet": recipe},
        "calibration": calibration.to_json(),
        "key": "0" * 64,
        "seed": 0,
        "contents": [CONTENT],
        "trained_on": {"dataset": "tiny", "videos": 1},
        "summary": {"n": 1},
        "versions": {"vadpipe": "0"},
    }
    made = ModelFolder(folder / "models" / "knn-1")
    made.save(detector, card, FitLog([], {"n": 1}), HeldOut.from_scores(["v"], [rows([0.5, 1.0])]))
    return made.path / name


def _read_model(folder: Path) -> None:
    models_lines(models(folder))
    made = ModelFolder.find(folder, "knn-1")
    made.held_out()
    made.describe()
    model_lines(model_details(folder, "knn-1"))
    _, card = made.load()
    Calibration.from_json(card["calibration"]).threshold(0.9)
    imported_stores(card, folder)
    specs = specs_of_model(card, cache=folder)
    source_specs(card, specs, cache=folder)


# --- score folders


def _scores(name: str, folder: Path) -> Path:
    normal = rows(np.linspace(0, 1, 40))
    start = 8 * np.arange(10)
    boxes = {"x0": 0.0, "y0": 0.0, "x1": 4.0, "y1": 4.0, "score": 1.0}
    found = Scores(
        start,
        start + 8,
        {"score": np.r_[np.zeros(5), np.ones(5) * 4]},
        maps={"m": np.ones((10, 2, 3), np.float32)},
        regions=pa.table({"frame": start, **{n: np.full(10, v) for n, v in boxes.items()}}),
    )
    for each in "ab":
        path = folder / each
        score_folder = write_score_folder(path, {"v": found}, {"h": normal})
        evaluate_scores(path, MANIFEST, replicates=0)
    assert score_folder.metrics_file.is_file()
    return folder / "a" / name


def _read_scores(folder: Path) -> None:
    steps: list[Callable[[], object]] = [
        lambda: write_report(folder / "a", folder / "page", manifest=MANIFEST, max_events=3),
        lambda: write_review(folder / "a", folder / "review", manifest=MANIFEST, cache=folder),
        lambda: evaluate_scores(folder / "a", MANIFEST, replicates=0),
        lambda: fuse_scores([folder / "a", folder / "b"], folder / "fused"),
    ]
    _all(steps)


def _all(steps: list[Callable[[], object]]) -> None:
    """Every step, also where one before it refuses the file: the first error is raised."""
    from vadpipe.pipeline.cli.main import _message

    first: Exception | None = None
    for step in steps:
        try:
            step()
        except Exception as error:
            if _message(error) is None:
                raise
            first = first or error
    if first is not None:
        raise first


# --- caches


def _store(folder: Path) -> Any:
    store = make_store(folder)
    for span in (Span(CONTENT, 0, 8, False), Span(CONTENT, 8, 16, True)):
        start = np.arange(span.frame_start, span.frame_stop, 4)
        values = {"x": np.ones((2, 3), np.float16)}
        facts = VideoFacts(25.0, 16 if span.last else None)
        made = Rows(start, start + 4, values)
        store.add_index_part([store.write(span, {"snippet": made}, [SPEC], facts, PROVENANCE)])
    return store


def _read_store(folder: Path) -> None:
    def each() -> None:
        for store in list_stores(folder):
            Holdings(store, [CONTENT]).whole(CONTENT)
            array = store.read(CONTENT).arrays["x"]
            array[0 : len(array)]
            ending_of(store, CONTENT)
            record = RECORD.model_copy(update={"anomalies": None})
            (spec,) = store.array_specs()
            found = StoreRows(store, {**spec, "role": "x"}, [record], [CONTENT], labels=False)
            found.read_into(np.empty((1, *found.shape), found.dtype), 0, 0)

    def named() -> None:
        for path in sorted((folder / "features").iterdir()):
            chosen_stores(folder, [path.name])

    def shards() -> None:
        for store in list_stores(folder):
            for path in store.scan():
                row_of(path)

    steps: list[Callable[[], object]] = [
        lambda: unreadable_sets(folder),
        each,
        named,
        shards,
        lambda: [store.verify() for store in list_stores(folder)],
        lambda: [checksums_of([store], [CONTENT]) for store in list_stores(folder)],
    ]
    _all(steps)


def _spec(folder: Path) -> Path:
    path: Path = _store(folder).root / "spec.json"
    return path


def _index(folder: Path) -> Path:
    part: Path = _store(folder).shard_index.parts()[0]
    return part


def _shard(folder: Path) -> Path:
    path: Path = next(_store(folder).scan())
    return path


def _probe(folder: Path) -> Path:
    save_probes(folder, [("2|a|/drawn.mp4", video(8))])
    return probe_parts(folder)[0]


def _run_state(folder: Path) -> Path:
    with journal(folder, "x", {"videos": 1, "spans": 1, "frames": 1}):
        pass
    return next((folder / "runs").iterdir())


def _read_runs(folder: Path) -> None:
    for run in read_runs(folder):
        run.lines()
        run.lost()


def _quarantine(folder: Path) -> Path:
    quarantine.add(folder, "s1-a", "/a.mp4", DecoderHang(""))
    return next((folder / "quarantine").iterdir())


def _tuning(folder: Path) -> Path:
    path = folder / "tuning.json"
    path.write_text('{"cpu net": 8}')
    return path


def _read_tuning(folder: Path) -> None:
    Tuning(folder / "tuning.json").find("cpu net")
    repair_cache(folder)


def _node(folder: Path) -> Path:
    done = Done("key", ("line",), (), {"row": {"name": "x"}, "model": "knn-1"})
    RunFolder(folder).write_done("score-x", done)
    return folder / "nodes" / "score-x.json"


def _read_node(folder: Path) -> None:
    done = RunFolder(folder).done("score-x")
    if done is not None:
        node: Any = type("Node", (), {"kind": "score", "subject": "x", "name": "score-x"})
        result_rows([(node, done)])


def _weights(folder: Path) -> Path:
    from safetensors.numpy import save_file

    path = folder / "w.safetensors"
    save_file({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.int64)}, path)
    return path


KINDS = [
    FileKind("manifest", "csv", partial(_manifest, ".csv"), partial(_read_manifest, ".csv")),
    FileKind(
        "manifest", "parquet", partial(_manifest, ".parquet"), partial(_read_manifest, ".parquet")
    ),
    FileKind("run file", "toml", _run_file, lambda folder: load_run(folder / "run.toml")),
    *(
        FileKind(f"model {name}", form, partial(_model, name), _read_model)
        for name, form in (
            ("config.json", "json"),
            ("weights.safetensors", "safetensors"),
            ("calibration.parquet", "parquet"),
        )
    ),
    *(
        FileKind(f"scores {name}", form, partial(_scores, name), _read_scores)
        for name, form in (
            ("run.json", "json"),
            ("metrics.json", "json"),
            ("videos.parquet", "parquet"),
            ("events.parquet", "parquet"),
            ("failures.parquet", "parquet"),
            ("calibration.parquet", "parquet"),
            ("scores/v.parquet", "parquet"),
            ("regions/v.parquet", "parquet"),
            ("maps/v.h5", "hdf5"),
        )
    ),
    FileKind("recipe of a set", "json", _spec, _read_store),
    FileKind("index", "parquet", _index, _read_store),
    FileKind("shard", "hdf5", _shard, _read_store),
    FileKind("probe table", "parquet", _probe, load_probes),
    FileKind("run", "json", _run_state, _read_runs),
    FileKind("quarantine", "json", _quarantine, quarantine.barred),
    FileKind("batch sizes", "json", _tuning, _read_tuning),
    FileKind("node of a run", "json", _node, _read_node),
    FileKind(
        "weights", "safetensors", _weights, lambda folder: read_arrays(folder / "w.safetensors")
    ),
]


def encoded(value: object) -> bytes:
    """JSON as a careless writer makes it: numbers that are none included."""
    return json.dumps(value).encode()
