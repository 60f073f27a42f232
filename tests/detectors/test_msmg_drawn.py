"""MSMG on the drawn square, as a camera of 5 frames a second sees it: task 2 is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.bags import Bags
from tests.clips_of_frames import frame_bag, moving_square
from vadpipe.data_manifests.synthetic import write_scene
from vadpipe.detectors.base import FitOptions
from vadpipe.detectors.msmg import MSMG
from vadpipe.detectors.msmg_network import MSMGNetwork
from vadpipe.detectors.msmg_own import Samples
from vadpipe.detectors.msmg_samples import ProxySamples
from vadpipe.detectors.msmg_settings import MSMGConfig
from vadpipe.detectors.msmg_training import ROLE, answers, measured, monitored
from vadpipe.detectors.row_memory import row_memories
from vadpipe.extractors.device.resize import resize_frames

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = (0, 1, 2)
LEAST = 0.3  # chance is 0.1
PAIRS = 200
CONFIG = MSMGConfig.model_validate(
    {
        **{"weights": (0, 1, 0), "architecture": "shallow+narrow", "position": "unpooled"},
        **{"motion_gain": 30, "lr": 3e-3, "steps": 160, "validate_every": 160},
        "validation_pairs": PAIRS,
    }
)

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Learnt:
    """A detector, and footage that it was not trained on."""

    detector: MSMG
    unseen: list[Pictures]
    warnings: tuple[str, ...]


@pytest.fixture(scope="module", params=SEEDS)
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    seed = int(request.param)
    root = tmp_path_factory.mktemp("drawn") / "square"
    write_scene(root, seed=seed, size=(48, 64), n_train=6, n_test=1, frames=60, fps=5)
    videos = [seen(path) for path in sorted((root / "train").glob("*.mp4"))]
    detector = MSMG(CONFIG)
    log = detector.fit(bags(videos[:4]), device="cpu", seed=seed)
    return Learnt(detector, videos[4:], log.warnings)


def seen(path: Path) -> Pictures:
    """The frames of a clip at half their size."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    found: Pictures = resize_frames(torch.from_numpy(frames), (24, 32)).numpy()
    return found


def bags(videos: list[Pictures]) -> Bags:
    return Bags([frame_bag(f"v{i}", {ROLE: frames}) for i, frames in enumerate(videos)])


def accuracies(detector: MSMG, videos: list[Pictures]) -> dict[str, float]:
    """What task 2 says of these videos."""
    assert detector.trained is not None
    network = detector.trained["network"]
    assert isinstance(network, MSMGNetwork)
    with row_memories(bags(videos), [ROLE], device="cpu", options=FitOptions()) as (memory,):
        drawn = Samples(ProxySamples(memory, CONFIG.length), None)
        with torch.no_grad():
            return measured(network, drawn.validation(PAIRS, 20), CONFIG)


def test_the_place_of_a_missing_frame_is_learnt(learnt: Learnt) -> None:
    values = accuracies(learnt.detector, learnt.unseen)
    assert values["localisation_accuracy"] >= LEAST
    assert monitored(values, CONFIG) == () == learnt.warnings


def noisy(n: int, seed: int) -> Pictures:
    """A square that stands, with the noise of a sensor: no two frames are equal."""
    frames = np.repeat(moving_square(1)[ROLE], n, 0)
    noise = np.random.default_rng(seed).normal(0, 8, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("moves", [True, False], ids=["moving", "standing"])
def test_task_1_ranks_clips_of_footage_that_moves_and_of_no_other(moves: bool) -> None:
    """By the share of pairs in the right order, which needs no threshold and here has no ties."""
    videos = [
        moving_square(40, seed, speed=2)[ROLE] if moves else noisy(40, seed) for seed in range(2)
    ]
    settings = {"length": 6, "weights": (1, 0, 0), "steps": 40, "position": "pooled"}
    settings |= {"validation_pairs": 20}
    detector = MSMG(CONFIG.model_copy(update=settings))
    detector.fit(bags(videos), device="cpu", seed=0)
    assert detector.trained is not None
    network = detector.trained["network"]
    assert isinstance(network, MSMGNetwork)
    unseen = moving_square(90, 7, speed=2)[ROLE] if moves else noisy(90, 7)
    rows = row_memories(bags([unseen]), [ROLE], device="cpu", options=FitOptions())
    with rows as (memory,), torch.no_grad():
        said = answers(network, ProxySamples(memory, 6).draw(100, 0), None)
    broken, whole = (
        np.diff(said[f"continuity_{kind}"].numpy(), axis=1)[:, 0] for kind in ("broken", "whole")
    )
    assert not set(broken.tolist()) & set(whole.tolist())
    ranked = (broken[:, None] > whole).mean()
    assert ranked > 0.9 if moves else abs(ranked - 0.5) < 0.15


def test_footage_that_does_not_move_is_at_chance_and_the_log_says_so(learnt: Learnt) -> None:
    """What has learnt places finds none where there are none, with the noise of a sensor too."""
    random = np.random.default_rng(0)
    still = [np.repeat(frames[:1], 60, 0) for frames in learnt.unseen]
    noisy = [
        np.clip(frames + random.normal(0, 2, frames.shape), 0, 255).astype(np.uint8)
        for frames in still
    ]
    for videos in (still, noisy):
        (said,) = monitored(accuracies(learnt.detector, videos), CONFIG)
        assert said.startswith("localisation is at chance")
