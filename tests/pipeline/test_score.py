"""Scoring: the extractors that a model needs are found again, down to the weights file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vadpipe.extractors.base import ExtractorError
from vadpipe.extractors.i3d_r50 import CARDS, I3dR50, caffe2_blob
from vadpipe.pipeline.extractor_spec import resolve_extractor
from vadpipe.pipeline.keys import canonical_json, key_of
from vadpipe.pipeline.score import specs_of_model


def write_blobs(path: Path, value: float) -> None:
    """A file with all names of the caffe2 layout; nothing here looks at its shapes."""
    import torch

    with torch.device("meta"):
        names = [name for name in I3dR50().state_dict() if "num_batches" not in name]
    blobs = {caffe2_blob(name): np.full(2, value, np.float32) for name in names}
    path.write_bytes(pickle.dumps({"blobs": blobs}, 2))


def test_weights_whose_card_knows_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(tmp_path))
    original = tmp_path / CARDS[0].file
    write_blobs(original, 1.0)
    spec = resolve_extractor("patch_cubes:ssrl", precision="fp32")
    assert spec.weights is not None and spec.weights.card is CARDS[0]
    recipe: dict[str, Any] = json.loads(canonical_json(spec.make().recipe()))
    model = {"features": {"patch": recipe}}
    (found,) = specs_of_model(model)
    assert key_of(found.make().recipe()) == key_of(recipe)
    original.rename(tmp_path / "kept.pkl")
    write_blobs(original, 2.0)  # another file of that name
    with pytest.raises(ExtractorError, match=f"sha256 {spec.weights.identity}, which no card"):
        specs_of_model(model)
    (found,) = specs_of_model(model, weights=str(tmp_path / "kept.pkl"))
    assert key_of(found.make().recipe()) == key_of(recipe)
