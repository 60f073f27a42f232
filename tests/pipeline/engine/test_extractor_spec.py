"""Extractors with every choice settled: what is part of a key, and what is no choice at all."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests import two_networks
from tests.plugins import reread, write_distribution
from tests.random_weights import random_weights
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.patch_cubes import PatchCubes
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.pipeline.engine import extractor_spec
from vadpipe.pipeline.engine.extractor_spec import (
    ExtractorSpec,
    resolve_extractor,
    resolve_extractors,
    stores_of,
)
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.registry import EXTRACTORS
from vadpipe.pipeline.store.keys import key_of


def key(spec: ExtractorSpec) -> str:
    return key_of(spec.recipe())


def test_what_becomes_of_damaged_clips_is_part_of_the_key_where_it_shows() -> None:
    keep, skip, fail = (resolve_extractor("null", on_corrupt=p) for p in ("keep", "skip", "fail"))
    assert key(keep) == key(fail) == key(resolve_extractor("null"))
    assert key(skip) != key(keep)
    assert {**keep.recipe(), "on_corrupt": "skip"} == skip.recipe()
    assert keep.recipe() == keep.make().recipe(), "sets of earlier versions stay what they are"


def test_settings_are_part_of_the_key_by_their_values() -> None:
    """What is said and what goes without saying is the same."""
    plain = resolve_extractor("null")
    assert key(resolve_extractor("null", {"stride": 16})) == key(plain)
    assert key(resolve_extractor("null", {"stride": 8})) != key(plain)
    assert resolve_extractor("null", {"stride": 8}).make().clip_rule.stride == 8


def test_a_preset_gives_way_to_what_is_said() -> None:
    small = PatchCubes.presets["small"]
    options: dict[str, Any] = {"weights": "random:0", "precision": "fp32"}
    as_preset = resolve_extractor("patch_cubes:small", **options)
    assert as_preset.config == dict(small)
    assert key(as_preset) == key(resolve_extractor("patch_cubes", small, **options))
    other = resolve_extractor("patch_cubes:small", {"stride": 3}, **options)
    assert other.config == {**small, "stride": 3}


def test_without_a_network_there_are_no_weights_and_no_precision() -> None:
    spec = resolve_extractor("null", precision="bf16")
    assert (spec.weights, spec.precision) == ({}, "fp32")
    assert key(spec) == key(resolve_extractor("null"))


def test_precision_is_asked_where_the_network_will_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def answer(*question: Any) -> str:
        asked.append(question)
        return "bf16"

    monkeypatch.setattr(extractor_spec, "resolve_precision_of", answer)
    engine = Engine(scheduler="tls://host:1")
    options: dict[str, Any] = {"weights": "random:0", "engine": engine}
    spec = resolve_extractor("inception_i3d", precision="auto", **options)
    assert spec.precision == "bf16" and asked == [(engine, "auto")]
    resolve_extractor("null", engine=engine)
    assert len(asked) == 1, "no precision is resolved without a network"


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("nul", {}, "no extractor 'nul'; there are: .*null"),
        ("null:small", {}, "null has no preset 'small'; it has: none"),
        ("patch_cubes:tiny", {}, "patch_cubes has no preset 'tiny'; it has: .*small"),
        ("null", {"weights": "random:0"}, "null has no network and takes no weights"),
    ],
)
def test_what_does_not_exist_is_named(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ExtractorError, match=match):
        resolve_extractor(name, **options)


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="strid"):
        ExtractorSpec("null", {"strid": 3}, {}, "fp32").make()
    with pytest.raises(ValidationError, match="stride"):
        resolve_extractor("null", {"stride": 0}).make()


def test_feature_sets_are_named_by_their_keys_and_nothing_is_made(tmp_path: Path) -> None:
    specs = [resolve_extractor("null", {"stride": stride}) for stride in (4, 8)]
    stores = stores_of(specs, tmp_path)
    assert [store.name for store in stores] == [f"null-{key(spec)[:12]}" for spec in specs]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(EXTRACTORS))
def test_a_spec_is_small_enough_to_be_sent_with_every_task(name: str) -> None:
    spec = resolve_extractor(name, weights=random_weights(name), precision="fp32")
    sent = pickle.dumps(spec)
    assert len(sent) < 20_000
    assert key(pickle.loads(sent)) == key(spec)


def test_weights_of_several_networks_are_part_of_the_key_by_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_networks.register(monkeypatch)

    def resolved(settings: dict[str, Any], **weights: str) -> ExtractorSpec:
        return resolve_extractor("two_networks", settings, weights=weights, precision="fp32")

    both = resolved({}, reader="random:0", teacher="random:0")
    assert both.recipe()["weights"] == {"reader": "random:0", "teacher": "random:0"}
    assert both.recipe()["precision"] == "fp32"
    assert [each.card.name for each in both.weights.values()] == ["reader.first", "teacher.only"]
    alone = resolved({"teacher": False}, reader="random:0")
    assert alone.recipe()["weights"] == {"reader": "random:0"}
    others = [resolved({}, reader="random:1", teacher="random:0"), alone]
    others.append(resolved({}, reader="random:0", teacher="random:1"))
    assert len({key(spec) for spec in (both, *others)}) == 4
    with pytest.raises(WeightsError, match=r"no network teacher with these settings; .* reader"):
        resolved({"teacher": False}, reader="random:0", teacher="random:0")


def test_extractors_together_take_the_weights_of_their_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_networks.register(monkeypatch)
    names = ["two_networks:alone", "two_networks", "vifi_clip", "null"]
    weights = {"reader": "random:1", "teacher": "random:2", "network": "random:3"}
    specs = resolve_extractors(names, weights=weights, precision="fp32")
    assert [spec.recipe()["weights"] for spec in specs] == [
        {"reader": "random:1"},
        {"reader": "random:1", "teacher": "random:2"},
        "random:3",
        None,
    ]


PLUGIN = """
from vadpipe.extractors.null import NullFeatures
class Mine(NullFeatures):
    name = "mine"
"""
POINTS = {"vadpipe.extractors": {"mine": "plugin_spec:Mine"}}


def install(site: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Put one version of a plug-in on the path, and take away any other."""
    shutil.rmtree(site, ignore_errors=True)
    write_distribution(site, "plugin-a", POINTS, {"plugin_spec": PLUGIN}, version)
    monkeypatch.syspath_prepend(site)
    reread(monkeypatch)


def test_the_recipe_of_a_plugin_names_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for version in ("1.0", "1.1"):
        install(tmp_path / "site", monkeypatch, version)
        spec = pickle.loads(pickle.dumps(resolve_extractor("mine", {"stride": 8})))
        recipe = spec.recipe()
        assert recipe.pop("distribution") == {"name": "plugin-a", "version": version}
        assert recipe == spec.make().recipe()
        keys.append(key(spec))
    assert keys[0] != keys[1]
    assert "distribution" not in resolve_extractor("null").recipe()


def test_a_worker_with_another_version_or_none_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch, "1.0")
    spec = resolve_extractor("mine")
    install(tmp_path / "site", monkeypatch, "1.1")
    with pytest.raises(ExtractorError, match=r"of plugin-a 1\.0, but .* has plugin-a 1\.1"):
        spec.make()
    shutil.rmtree(tmp_path / "site")
    reread(monkeypatch)
    with pytest.raises(ExtractorError, match=r"has nothing by that name: install the same"):
        spec.make()
