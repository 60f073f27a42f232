"""Several runs in one process, as in a notebook or a service: the end of one is its own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.footage import moving_picture, write_video
from vadpipe.data_manifests import footage
from vadpipe.pipeline.engine import span_task
from vadpipe.pipeline.engine.cluster import open_client
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.run_end import _ENDED, end_run, forget_run, has_ended, new_run
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files

NULL = resolve_extractor("null")


def test_a_run_that_ended_is_known_until_it_is_forgotten() -> None:
    one, other = new_run(), new_run()
    assert one != other
    end_run(one)
    assert has_ended(one) and not has_ended(other)
    forget_run(one)
    forget_run(one)
    assert not has_ended(one)


def test_one_run_may_end_while_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is in the middle of its video while the first one begins and ends."""
    real = span_task.guarded_frames
    waiting, ended = threading.Event(), threading.Event()

    def slow(row: Any, *args: Any, **options: Any) -> Any:
        reader = real(row, *args, **options)
        frames = reader._frames

        def until_the_first_has_ended() -> Any:
            for frame in frames:
                if frame.index == 10:
                    waiting.set()
                    assert ended.wait(300)
                yield frame

        if row.path.endswith("second.mp4"):
            reader._frames = until_the_first_has_ended()
        return reader

    monkeypatch.setattr(span_task, "guarded_frames", slow)

    def extract(name: str) -> tuple[int, bool]:
        folder, cache = tmp_path / name, tmp_path / f"cache-{name}"
        folder.mkdir()
        write_video(folder / f"{name}.mp4", frames=(moving_picture(i) for i in range(60)))
        manifest = footage.build(folder)
        probed = probe_files(manifest, cache)
        done = extract_features(manifest, probed, [NULL], cache, engine=Engine(span_frames=16))
        (store,) = stores_of([NULL], cache)
        (row,) = probed.rows.values()
        return store.read(row.content_id).n_frames, bool(done.failures)

    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(extract, "second")
        assert waiting.wait(300)
        assert extract("first") == (60, False)
        ended.set()
        assert second.result(300) == (60, False)
    assert not _ENDED, "nothing is kept of runs that are over"


def test_python_stays_safe_until_the_last_client_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes may start as long as there is one."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    first, second = open_client(Engine()), open_client(Engine())
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ["PYTHONSAFEPATH"] == "1"
    second.__exit__(None, None, None)
    assert "PYTHONSAFEPATH" not in os.environ
