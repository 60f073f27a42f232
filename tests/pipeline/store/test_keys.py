"""Keys: canonical JSON, and what does and does not change them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.store.keys import canonical_json, differing_fields, key_of


def recipe_key(name: str = "patch_cubes", **options: Any) -> str:
    options = {"weights": "random:0", "precision": "fp32", **options}
    return key_of(resolve_extractor(name, **options).make().recipe())


def test_canonical_json_does_not_depend_on_the_order() -> None:
    assert canonical_json({"b": 1, "a": [1, 2.5, None]}) == '{"a":[1,2.5,null],"b":1}'
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": value})


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"stride": 8}},
        {"settings": {"clip_length": 8}},
        {"settings": {"tail": "drop"}},
        {"settings": {"backbone": "i3d_r50_ptv"}},
        {"settings": {"frame_size": [240, 360], "patch_sizes": [[120, 120]]}},
        {"settings": {"patch_sizes": [[240, 280]]}},
        {"settings": {"dtype": "float32"}},
        {"weights": "random:1"},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_what_changes_the_numbers_changes_the_key(change: dict[str, Any]) -> None:
    if change.get("precision") == "bf16":  # resolved on any machine for this test
        spec = resolve_extractor("patch_cubes", weights="random:0", precision="fp32")
        other = ExtractorSpec(spec.name, spec.config, spec.weights, "bf16")
        assert key_of(other.make().recipe()) != recipe_key()
    else:
        assert recipe_key(**change) != recipe_key()


def test_a_default_spelt_out_is_the_same_key() -> None:
    assert recipe_key(settings={"stride": 16}) == recipe_key()


def test_extractors_do_not_share_keys() -> None:
    assert recipe_key("inception_i3d") != recipe_key("patch_cubes")


def test_device_batch_span_workers_and_cache_are_not_in_a_recipe(tmp_path: Path) -> None:
    text = canonical_json(resolve_extractor("null").make().recipe())
    for word in ("device", "batch", "span", "worker", str(tmp_path), "cuda"):
        assert word not in text
    # nor can they be: resolving takes the device only to settle the precision
    assert recipe_key(engine=Engine(workers=3, batch_size=5)) == recipe_key()


def test_differing_fields_names_what_differs() -> None:
    ours, theirs = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "d": 3, "e": 5}
    assert differing_fields(ours, theirs) == ["a.c: 2 != 4", "e: None != 5"]
