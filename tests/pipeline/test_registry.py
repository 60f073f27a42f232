from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import write_distribution
from vadpipe import data_manifests, detectors, extractors
from vadpipe.detectors.knn import KNN
from vadpipe.pipeline.registry import Distribution, PluginError, Registry

GROUP = "vadpipe.detectors"
DATASET_GROUP = "vadpipe.datasets"
SOURCE = """
from vadpipe.detectors.knn import KNN
class Mine(KNN):
    name = "mine"
class Other(KNN):
    name = "another"
def build(root, *, subset=False):
    return root
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


def registry() -> Registry[Any]:
    """Detectors, with the entry points of now."""
    return Registry("detector", detectors.__name__, detectors.PLACES, GROUP)


def datasets() -> Registry[Any]:
    return Registry("data set", data_manifests.__name__, data_manifests.PLACES, DATASET_GROUP)


def test_a_plugin_is_one_more_name(site: Path) -> None:
    points = {GROUP: {"mine": "plugin_a:Mine"}, DATASET_GROUP: {"files": "plugin_a:build"}}
    write_distribution(site, "Plugin-A", points, {"plugin_a": SOURCE}, version="2.1")
    known = registry()
    assert list(known) == [*detectors.PLACES, "mine"] and len(known) == len(detectors.PLACES) + 1
    assert "mine" in known and "plugin_a" not in sys.modules, "a name needs no import"
    assert known.distribution("mine") == Distribution("Plugin-A", "2.1")
    assert known.recorded("mine") == {"distribution": {"name": "Plugin-A", "version": "2.1"}}
    assert issubclass(known["mine"], KNN) and known["mine"].name == "mine"
    assert datasets()["files"](site) == site
    assert "mine" not in datasets(), "each group has its own names"


def test_names_of_vadpipe_are_as_before(site: Path) -> None:
    known = registry()
    assert known["knn"] is KNN and known.distribution("knn") is None
    assert known.recorded("knn") == {}
    assert "gone" not in known
    for ask in (known.__getitem__, known.distribution):
        with pytest.raises(KeyError, match="gone"):
            ask("gone")


def test_a_name_of_vadpipe_cannot_be_taken(site: Path) -> None:
    write_distribution(site, "plugin-a", {GROUP: {"knn": "plugin_a:Mine"}}, {"plugin_a": SOURCE})
    known = registry()
    for ask in (known.__getitem__, known.distribution):
        with pytest.raises(PluginError, match=r"'knn' is in vadpipe itself and in plugin-a 1\.0"):
            ask("knn")
    assert list(known) == list(detectors.PLACES), "it is listed once"
    assert known["rtfm"].name == "rtfm", "other names are as before"


def test_two_distributions_cannot_have_one_name(site: Path) -> None:
    for name in ("plugin-a", "plugin-b"):
        write_distribution(site, name, {GROUP: {"mine": "plugin_a:Mine"}}, {"plugin_a": SOURCE})
    with pytest.raises(PluginError) as raised:
        registry()["mine"]
    assert "plugin-a 1.0" in str(raised.value) and "plugin-b 1.0" in str(raised.value)
    assert list(registry()).count("mine") == 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("plugin_gone:Mine", "cannot be imported: ModuleNotFoundError: .*plugin_gone"),
        ("plugin_a:Gone", "cannot be imported: AttributeError: .*Gone"),
        ("plugin_raises:Mine", "cannot be imported: ZeroDivisionError"),
        ("plugin_a:build", "is no subclass of vadpipe.detectors.base.Detector"),
        ("plugin_a:Other", "calls itself 'another': name and entry point must be equal"),
    ],
)
def test_a_broken_plugin_is_an_error_only_where_it_is_asked_for(
    place: str, message: str, site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    modules = {"plugin_a": SOURCE, "plugin_raises": "1 / 0"}
    write_distribution(site, "plugin-a", {GROUP: {"mine": place}}, modules)
    known = registry()
    with pytest.raises(PluginError, match=message) as raised:
        known["mine"]
    assert str(raised.value).startswith("detector 'mine' of plugin-a 1.0 cannot be ")
    assert "mine" in known and known["knn"] is KNN
    with caplog.at_level(logging.WARNING):
        assert [name for name, _ in known.usable()] == list(detectors.PLACES)
    assert "plugin-a 1.0" in caplog.text


def test_a_data_set_is_a_function(site: Path) -> None:
    points = {DATASET_GROUP: {"files": "plugin_a:NUMBER"}}
    write_distribution(site, "plugin-a", points, {"plugin_a": "NUMBER = 3"})
    with pytest.raises(PluginError, match=r"NUMBER is no function\(root"):
        datasets()["files"]


def test_entry_points_are_read_once_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def entry_points(*, group: str) -> list[Any]:
        read.append(group)
        return []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    known = Registry("extractor", extractors.__name__, extractors.PLACES, "vadpipe.extractors")
    assert "null" in known and not read, "a name of vadpipe is known without them"
    for _ in range(2):
        assert "gone" not in known and list(known) == list(extractors.PLACES)
    assert read == ["vadpipe.extractors"]


UNFINISHED = """
from vadpipe.detectors.base import Detector
class Half(Detector):
    name, version = "half", 1
    def fit(self, source, **options): ...
    def score(self, bag): ...
"""


def test_a_class_that_lacks_a_part_of_the_contract_says_which(site: Path) -> None:
    write_distribution(site, "a", {GROUP: {"half": "plugin_h:Half"}}, {"plugin_h": UNFINISHED})
    lacks = "lacks Config, supervision, load_state_dict, needs, state_dict"
    with pytest.raises(PluginError, match=f"'half' of a 1.0 cannot be used: plugin_h:Half {lacks}"):
        _ = registry()["half"]
