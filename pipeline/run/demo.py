"""A whole run on a drawn scene, with a real network: the example that needs no data."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from ...data_manifests.atomic import write_text
from ...data_manifests.synthetic import write_scene
from .config import load_run
from .execute import Ended
from .graph import plan
from .listing import ended_lines
from .resolved import resolve_run, specs_of
from .run import Run, run_nodes

RECIPE = "demo.toml"


def run_demo(
    out: Path, cache: Path, *, seed: int = 0, device: str = "cpu", say: Callable[[str], None]
) -> Run:
    """Draw a scene, write a recipe beside it, and run the recipe.

    `out/demo.toml` can be run again with `vadpipe run`, and copied. A scene that is there already
    is used again, so a second run does no work.

    Args:
        out:
            Folder of the demo.
        cache:
            Root of the cache.
        seed:
            Of the scene and of the detector.
        device:
            Where the network runs.
        say:
            Called with each line about a node, as it ends.

    Raises:
        WeightsError: the I3D weights were not fetched.
        ManifestError: the folder of the footage holds something else.
    """
    recipe = out / RECIPE
    text = files(__package__).joinpath(RECIPE).read_text(encoding="utf-8")
    footage = f"footage/seed{seed}"
    write_text(recipe, text.replace('root = "footage"', f'root = "{footage}"'))
    config = load_run(
        recipe, [f"seed={seed}", f"cache={os.path.realpath(cache)}", f"engine.device={device}"]
    )
    if not (out / footage / "scene.json").is_file():
        specs_of(config)  # missing weights are an error before anything is drawn
        write_scene(out / footage, seed=seed)
    resolved = resolve_run(config)

    def tell(ended: Ended) -> None:
        for line in ended_lines(ended):
            say(line)

    return run_nodes(resolved, plan(resolved), tell=tell)


def demo_lines(done: Run, out: Path) -> list[str]:
    """How the nodes have ended, and the command that repeats it."""
    return [*done.lines(), f"vadpipe run {out / RECIPE}"]
