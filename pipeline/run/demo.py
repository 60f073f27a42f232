"""All stages on a drawn scene, with a real network: the example that needs no data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...data_manifests.synthetic import write_scene
from .config import RunConfig
from .stages import execute, plan


def run_demo(out: Path, cache: Path, *, seed: int = 0, device: str = "cpu") -> Iterator[str]:
    """Draw a scene under `out/footage`, run all stages on it, yield the lines of each.

    A scene that is there already is used again, so a second run does no work.

    Args:
        out:
            Folder of the demo.
        cache:
            Root of the cache.
        seed:
            Of the scene and of the detector.
        device:
            Where the network runs.

    Raises:
        WeightsError: the I3D weights were not fetched.
        ManifestError: `out/footage` holds something else.
    """
    footage = out / "footage" / f"seed{seed}"
    config = RunConfig.model_validate(
        {
            "out": out.resolve() / "result",
            "cache": cache.resolve(),
            "manifest": {"dataset": "synthetic", "root": footage.resolve()},
            "extract": [{"extractor": "patch_cubes:small"}],
            "train": {"detector": "knn", "set": {"role": "patch"}},
            "seed": seed,
            "engine": {"device": device},
        }
    )
    stages = plan(config)  # before anything is drawn: missing weights are an error at once
    if not (footage / "scene.json").is_file():
        write_scene(footage, seed=seed)
    for stage, result in execute(stages):
        for line in result.lines:
            yield f"{stage.name}: {line}"
        for failure in result.failures:
            yield f"{stage.name} failed: {failure.video_id}: {failure.message}"
