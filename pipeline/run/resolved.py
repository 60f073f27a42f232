"""What is settled once a run, before any node runs: videos, files and extractors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...data_manifests.choices import choices
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.table import read_manifest, write_manifest
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor
from ..store.feature_sets import store_like
from ..store.feature_store import FeatureStore
from ..store.probe_table import Probed
from ..tables.probe import probe_to_use
from .config import RunConfig, TrainSection
from .folder import RunFolder
from .key_value import ConfigError
from .manifests import build_manifest


@dataclass(frozen=True)
class Resolved:
    """What is settled once a run, before any node runs.

    Attributes:
        config: the run.
        manifest: its videos, of all splits.
        probed: their files.
        specs: name of a feature set of an `[[extract]]` section -> its extractor.
    """

    config: RunConfig
    manifest: Manifest
    probed: Probed
    specs: Mapping[str, ExtractorSpec]

    @property
    def folder(self) -> RunFolder:
        """Where the run writes."""
        return RunFolder(self.config.out)

    def store(self, name: str) -> FeatureStore:
        """The feature set of an `[[extract]]` section."""
        return FeatureStore(self.config.cache_root, self.specs[name].recipe())

    def learned(self, section: TrainSection, shots: int | None) -> Manifest:
        """The videos that a training learns from, as videos of split train.

        Args:
            section:
                Of the training.
            shots:
                Number of videos, the first ones; None: all.

        Raises:
            ManifestError: there are none of that split, or not so many.
        """
        if section.split == "train":
            chosen = self.manifest.select(split="train")
        else:
            chosen = self._of_split(section.split, f"split of train {section.label}")
        if shots is not None and shots > len(chosen.records):
            raise ManifestError(
                f"train {section.label}: shots is {shots}, but the manifest has "
                f"{len(chosen.records)} videos of split {section.split!r}"
            )
        records = (
            record.model_copy(update={"split": "train"}) for record in chosen.records[:shots]
        )
        return chosen.model_copy(update={"records": tuple(records)})

    def scored(self) -> Manifest:
        """The videos that are scored.

        Raises:
            ManifestError: there are none of that split.
        """
        return self._of_split(self.config.score.split, "score.split")

    def extracted(self, name: str) -> Manifest:
        """The videos of which the feature set of an `[[extract]]` section is made.

        Raises:
            ManifestError: there are none of that split.
        """
        split = self.config.splits()[name]
        return self.manifest if split is None else self._of_split(split, f"split of extract {name}")

    def files(self, videos: Manifest) -> Probed:
        """The files of some of the videos, as they were probed."""
        wanted = {record.video_id for record in videos.records}
        return Probed(
            {v: row for v, row in self.probed.rows.items() if v in wanted},
            [failure for failure in self.probed.failures if failure.video_id in wanted],
        )

    def _of_split(self, split: str, setting: str) -> Manifest:
        chosen = self.manifest.select(split=split)
        if not chosen.records:
            known = choices(sorted({record.split for record in self.manifest.records}), split)
            raise ManifestError(
                f"the manifest has no videos of split {split!r}: set {setting}; it has: {known}"
            )
        return chosen


def specs_of(config: RunConfig) -> dict[str, ExtractorSpec]:
    """The extractors of a run by the name of their feature set, with every choice made.

    Raises:
        ConfigError: one reads the pixels of a section that comes after it.
        StoreError: one reads a feature set that the cache does not have.
        ExtractorError, WeightsError, pydantic.ValidationError: one cannot be made.
    """
    specs: dict[str, ExtractorSpec] = {}
    later = [name for section in config.extract for name in section.feature_sets()]
    for section in config.extract:
        for name, source in section.feature_sets().items():
            later.remove(name)
            if source in later or source == name:
                raise ConfigError(f"extract {name}: put the section {source!r} before it")
            specs[name] = resolve_extractor(
                section.extractor,
                section.set,
                weights=section.weights,
                precision=section.precision,
                engine=config.engine,
                on_corrupt=config.on_corrupt,
                cache=config.cache_root,
                source=_source(config, specs, source),
            )
    return specs


def _source(
    config: RunConfig, specs: Mapping[str, ExtractorSpec], name: str | None
) -> FeatureStore | None:
    """The feature set of a section before, or of the cache by its name."""
    if name is None:
        return None
    if name in specs:
        return FeatureStore(config.cache_root, specs[name].recipe())
    return store_like(config.cache_root, name)


def resolve_run(config: RunConfig, *, write: bool = True) -> Resolved:
    """Build or read the manifest, probe its files, settle the extractors.

    Args:
        config:
            The run.
        write:
            Write the manifest into the run folder where it is built.

    Raises:
        ManifestError: the videos cannot be listed.
        ExtractorError, WeightsError: an extractor cannot be made.
    """
    config = config.model_copy(update={"cache": config.cache_root})  # workers have other homes
    section = config.manifest
    specs = specs_of(config)  # before anything is opened: missing weights are an error at once
    if section.file is not None:
        manifest = read_manifest(section.file)
    else:
        assert section.dataset is not None and section.root is not None
        manifest = build_manifest(section.dataset, section.root, section.options)
        if write:
            write_manifest(manifest, RunFolder(config.out).manifest_file)
    probed = probe_to_use(manifest, config.cache_root, config.probing)
    return Resolved(config, manifest, probed, specs)
