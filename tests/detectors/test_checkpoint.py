"""The file of an unfinished fit: whole or not at all, and only of this layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.checkpoint import CHECKPOINT, LAYOUT, Checkpoint, discard_checkpoint


def made() -> Checkpoint:
    return Checkpoint(
        stage=1,
        step=2,
        module=nn.Linear(2, 1).state_dict(),
        optimizer={"state": {}, "param_groups": []},
        random={"device": "cpu", "cpu": torch.get_rng_state()},
        rows=[{"stage": "a", "step": 1, "total": 0.5}],
        best={"step": 1, "value": 0.25, "module": {"weight": torch.ones(1, 2)}},
    )


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = made()
    written.save(tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    assert file.name == CHECKPOINT
    read = Checkpoint.load(tmp_path / "new")
    assert read is not None and read.best is not None and written.best is not None
    assert (read.stage, read.step, read.rows) == (1, 2, written.rows)
    assert torch.equal(read.module["weight"], written.module["weight"])
    assert torch.equal(read.best["module"]["weight"], written.best["module"]["weight"])
    discard_checkpoint(tmp_path / "new")
    assert Checkpoint.load(tmp_path / "new") is None
    assert Checkpoint.load(None) is None


def test_a_failed_write_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made().save(tmp_path)

    def half(values: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("killed")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="killed"):
        replace(made(), step=3).save(tmp_path)
    monkeypatch.undo()
    read = Checkpoint.load(tmp_path)
    assert read is not None and read.step == 2
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(DetectorError, match=f"{CHECKPOINT} cannot be read .*: delete it to start"):
        Checkpoint.load(tmp_path)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    made().save(tmp_path)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: len(data) // 2])
    with pytest.raises(DetectorError, match=r"cannot be read .*: delete it to start again"):
        Checkpoint.load(tmp_path)


def test_other_content_is_named(tmp_path: Path) -> None:
    for values in ([1, 2], {"layout": LAYOUT, "stage": 0}):
        torch.save(values, tmp_path / CHECKPOINT)
        with pytest.raises(DetectorError, match=r"cannot be read .*: delete it to start again"):
            Checkpoint.load(tmp_path)


def test_a_file_of_another_layout_says_what_to_do(tmp_path: Path) -> None:
    """Version 0.1 wrote no number."""
    old = {name: value for name, value in vars(made()).items() if name != "best"}
    torch.save(old, tmp_path / CHECKPOINT)
    message = f"another version of vadpipe .layout 1, this one reads {LAYOUT}.: delete it to start"
    with pytest.raises(DetectorError, match=message):
        Checkpoint.load(tmp_path)
    torch.save({"layout": LAYOUT + 1}, tmp_path / CHECKPOINT)
    with pytest.raises(DetectorError, match=f"layout {LAYOUT + 1}, .*: delete it to start again"):
        Checkpoint.load(tmp_path)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(DetectorError, match="belongs to another network: delete it to start again"):
        made().restore(nn.Linear(3, 1))
