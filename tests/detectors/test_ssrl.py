"""SSRL: sizes, stages that start from the last weights and learn, ablations, attention maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torch import Tensor

from tests.bags import Bags, bag, weak_bags
from vadpipe.detectors.base import DetectorError, FitLog
from vadpipe.detectors.mil import count_parameters
from vadpipe.detectors.rtfm import score_snippets
from vadpipe.detectors.segments import SegmentBank, build_bank, layout_of
from vadpipe.detectors.ssrl import SSRL, SSRLConfig, SSRLNetwork

GRIDS = ("2x3", "3x5")
BAGS = weak_bags(6, grids=GRIDS, crops=2)


def make(**settings: Any) -> SSRL:
    return SSRL(SSRLConfig.model_validate({"steps": 2, "batch_size": 2, **settings}))


def fitted(**settings: Any) -> SSRL:
    detector = make(**settings)
    detector.fit(BAGS, device="cpu", seed=0)
    return detector


def size(width: int = 2048, grids: tuple[str, ...] = ("2x3", "3x5", "4x7"), **settings: Any) -> int:
    with torch.device("meta"):
        return count_parameters(SSRLNetwork(width, grids, SSRLConfig.model_validate(settings)))


def test_parameters_are_those_of_the_reference() -> None:
    relation = 23_603_968
    assert size() == 192_015_105
    assert size(grids=()) == relation + 1_114_881
    assert size() - size(psr=False) == 3 * relation
    assert size() - size(share_psr=True) == 2 * relation
    assert size() - size(vtr=False) == relation
    convolutions = 3 * 18_877_440
    assert size() - size(mpa=False) == convolutions + 12_584_960 + 6_293_504 + 20_973_568
    assert round(size(mpa_stride=2) / 1e5) == 1857
    assert size(1024, ("1x1",)) < size(1024, ("1x1", "5x9"))


def test_stages_by_default_and_by_config() -> None:
    layout = layout_of(BAGS, ("snippet", "patch"))
    names = [(s.name, s.scales, s.steps) for s in make().stages(layout)]
    assert names == [("1 full frame", (), 2), ("2 2x3", ("2x3",), 2), ("3 3x5", ("3x5",), 2)]
    plan = [{"scales": ["3x5"], "steps": 5, "lr": 0.1}, {"scales": ["2x3"]}]
    stages = make(stages=plan).stages(layout)
    assert [(s.scales, s.steps, s.lr) for s in stages] == [(("3x5",), 5, 0.1), (("2x3",), 2, 1e-3)]
    with pytest.raises(DetectorError, match="stages have scales"):
        make(stages=[{"scales": ["2x3"]}]).stages(layout)
    assert make(scales=["2x3"]).needs == ("snippet", "patch/2x3")
    assert make(scales=[]).needs == ("snippet",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales": ["2by3"]},
        {"scales": ["0x3"]},
        {"scales": ["2x3", "2x3"]},
        {"stages": [{"scales": ["2x3"]}, {"scales": ["2x3"]}]},
        {"scales": ["2x3"], "stages": [{"scales": ["3x5"]}]},
        {"share_psr": True, "full_frame": "psr"},
        {"attention": "loud"},
        {"branch_gain": 0},  # a ReLU follows: it would never learn
        {"branch_gain": 2},
        {"branch_gain": 0.5, "mpa": False},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(**wrong)


def test_missing_scales_and_roles_with_a_wrong_grid_are_named() -> None:
    with pytest.raises(DetectorError, match=r"video 'v00' has no 'patch/4x7' features"):
        make(scales=["2x3", "4x7"]).fit(BAGS, device="cpu", seed=0)
    arrays = {"snippet": np.zeros((9, 16)), "patch/2x3": np.zeros((9, 5, 16))}
    with pytest.raises(DetectorError, match="5 patches in a grid of 2 x 3"):
        make().fit(Bags([bag("a", arrays, 0), bag("b", arrays, 1)]), device="cpu", seed=0)


class Recording(SSRL):
    """Keeps a copy of the state after every stage, and what the stage trained."""

    def begin_stage(self, network: SSRLNetwork, *args: Any) -> Any:
        if not hasattr(self, "states"):
            self.states: list[dict[str, Tensor]] = []
            self.start = {k: v.clone() for k, v in network.state_dict().items()}
            self.modes: list[dict[str, bool]] = []
        parameters = super().begin_stage(network, *args)
        self.modes.append({name: part.training for name, part in network.named_modules()})
        return parameters

    def end_stage(self, network: SSRLNetwork, *args: Any) -> None:
        self.states.append({k: v.clone() for k, v in network.state_dict().items()})
        super().end_stage(network, *args)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    keys = {k for k in before if not torch.equal(before[k], after[k])}
    return {".".join(k.split(".")[: 2 if k[0] in "mp" else 1]) for k in keys}


def test_a_stage_trains_its_branch_and_leaves_every_bit_of_the_rest() -> None:
    detector = Recording(SSRLConfig(steps=3, batch_size=2))
    detector.fit(BAGS, device="cpu", seed=0)
    first, second, third = detector.states
    assert changed(detector.start, first) == {"vtr", "classifier"}
    assert changed(first, second) == {"mpa.2x3", "psr.2x3"}
    assert changed(second, third) == {"mpa.3x5", "psr.3x5"}
    later = detector.modes[1]
    assert later["classifier.dropout"] and later["dropout"]  # as in the reference code
    assert later["psr.2x3"] and not later["vtr"] and not later["psr.3x5"]


def test_without_freezing_a_stage_trains_all_that_has_joined() -> None:
    detector = Recording(SSRLConfig(steps=3, batch_size=2, freeze=False))
    detector.fit(BAGS, device="cpu", seed=0)
    _, second, third = detector.states
    assert changed(second, third) == {"vtr", "classifier"} | {
        f"{part}.{scale}" for part in ("mpa", "psr") for scale in GRIDS
    }


def test_what_is_kept_of_a_stage_is_what_the_branch_gives() -> None:
    """The features kept for stage 3 equal the sum computed again from the video's features."""
    detector = make()
    layout = layout_of(BAGS, detector.needs)
    torch.manual_seed(0)
    network = detector.make_network(layout)
    bank = build_bank(
        BAGS,
        layout,
        segments=32,
        resampling="rtfm",
        prepare=detector.prepare_rows,
        device="cpu",
        memory=None,
        scratch=None,
    )
    raw = {role: values.clone() for role, values in bank.arrays.items()}
    stages = detector.stages(layout)
    detector.begin_stage(network, stages, 0)
    detector.end_stage(network, stages, 0, bank)
    assert torch.equal(bank.arrays["snippet"], raw["snippet"])
    detector.begin_stage(network, stages, 1)
    detector.end_stage(network, stages, 1, bank)
    network.eval()
    with torch.no_grad():
        expected = network.add("2x3", raw["snippet"], raw["patch/2x3"])
    assert torch.allclose(bank.arrays["snippet"], expected, atol=1e-5)
    assert not torch.allclose(expected, raw["snippet"], atol=1e-2)
    detector.begin_stage(network, stages, 2)
    assert detector.roles(layout, stages[2]) == ["snippet", "patch/3x5"]


@pytest.mark.parametrize(
    "settings",
    [
        {"psr": False},
        {"mpa": False},
        {"vtr": False},
        {"psr_dilated": False},
        {"psr_non_local": False},
        {"share_psr": True},
        {"branch_gain": 1},
        {"mpa_stride": 2},
        {"full_frame": "psr"},
        {"attention": "softmax", "fusion_conv": False},
        {"magnitude_loss": "hinge", "sparsity": "l1", "smooth_across_videos": False},
        {"freeze": False, "full_frame": "psr", "share_psr": True},
        {"scales": ["3x5"]},
        {"width": 8},
    ],
    ids=str,
)
def test_every_switch_trains_scores_and_changes_the_numbers(settings: dict[str, Any]) -> None:
    detector = fitted(**settings)
    loaded = make(**settings)
    loaded.load_state_dict(detector.state_dict())
    plain = fitted().score(BAGS[0]).columns["score"]
    scores = detector.score(BAGS[0]).columns["score"]
    assert np.array_equal(scores, loaded.score(BAGS[0]).columns["score"])
    assert not np.allclose(scores, plain, rtol=1e-6)


def test_branches_of_scales_start_at_the_gain() -> None:
    layout = layout_of(BAGS, ("snippet", "patch"))
    states = []
    for gain in (1.0, 0.25):
        torch.manual_seed(3)
        network = make(branch_gain=gain, full_frame="psr").make_network(layout)
        states.append(network.state_dict())
    whole, quarter = states
    scaled = {f"mpa.{grid}.linear.weight" for grid in GRIDS}
    for name, value in whole.items():
        assert torch.equal(quarter[name], value * (0.25 if name in scaled else 1.0)), name


@pytest.mark.parametrize(("jump", "warned"), [(0.01, 2), (100.0, 0)])
def test_stages_that_start_at_a_high_loss_are_warned_of(
    jump: float, warned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vadpipe.detectors.fitting.JUMP", jump)
    log = make().fit(BAGS, device="cpu", seed=0)
    assert len(log.warnings) == warned
    assert all("lower branch_gain" in text for text in log.warnings)
    first = next(row for row in log.rows if row["stage"] == "2 2x3")
    assert log.summary["first_loss/2 2x3"] == first["total"]


def test_without_scales_it_is_rtfm() -> None:
    from vadpipe.detectors.rtfm import RTFM, RTFMConfig

    other = RTFM(RTFMConfig(steps=2, batch_size=2))
    other.fit(BAGS, device="cpu", seed=0)
    ours = fitted(scales=[]).score(BAGS[0]).columns
    for name, values in other.score(BAGS[0]).columns.items():
        assert np.array_equal(values, ours[name])


def test_attention_maps_cover_the_grid_and_sum_to_the_patches() -> None:
    scores = fitted().score(BAGS[1])
    n = len(scores.columns["score"])
    assert {k: v.shape for k, v in scores.maps.items()} == {
        "attention/2x3": (n, 2, 3),
        "attention/3x5": (n, 3, 5),
    }
    for grid in scores.maps.values():
        assert np.allclose(grid.sum(axis=(1, 2)), grid[0].size, rtol=1e-5)
        assert np.ptp(grid) > 0
    assert not fitted(psr_non_local=False).score(BAGS[1]).maps


def test_blocks_of_snippets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from vadpipe.detectors import ssrl

    detector = fitted()
    whole = detector.score(BAGS[0])
    monkeypatch.setattr(ssrl, "SNIPPETS_AT_ONCE", 7)
    parts = detector.score(BAGS[0])
    assert np.allclose(whole.columns["score"], parts.columns["score"], atol=1e-6)
    for name, values in whole.maps.items():
        assert np.allclose(values, parts.maps[name], atol=1e-5)


def one_patch(videos: int, seed: int) -> tuple[Bags, NDArray[np.bool_]]:
    """Every second video has an event that one patch of six shows; and the truth of every row.

    The full frame is the mean of the patches with noise of its own, so that it shows the same
    event diluted. Values are small against 1, as features of I3D are.
    """
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=32)
    event = 12 * direction / np.linalg.norm(direction)
    bags, truth = [], []
    for v in range(videos):
        n = int(rng.integers(16, 33))
        abnormal = np.zeros(n, bool)
        if v % 2:
            length = int(rng.integers(3, 7))
            first = int(rng.integers(0, n - length + 1))
            abnormal[first : first + length] = True
        patches = rng.normal(size=(n, 6, 32))
        patches[abnormal, rng.integers(6)] += event
        frame = patches.mean(axis=1) + 0.9 * rng.normal(size=(n, 32))
        arrays = {"snippet": frame, "patch/2x3": patches}
        scaled = {role: (0.1 * values).astype(np.float32) for role, values in arrays.items()}
        bags.append(bag(f"v{v:02d}", scaled, v % 2))
        truth.append(abnormal)
    return Bags(bags), np.concatenate(truth)


class Staged(SSRL):
    """Scores other bags after the first stage, too: what the full frame alone has learned."""

    test: Bags
    first: NDArray[np.float32]

    def end_stage(self, network: SSRLNetwork, stages: Any, at: int, bank: SegmentBank) -> None:
        if at == 0:
            frames = [torch.from_numpy(b.tracks["snippet"].rows())[:, None] for b in self.test]
            with torch.inference_mode():
                network.eval()
                scored = [
                    score_snippets(network, frame, [len(frame)])["score"].numpy()
                    for frame in frames
                ]
            self.first = np.concatenate(scored)
        super().end_stage(network, stages, at, bank)


def learned(seed: int, gain: float, **more: Any) -> tuple[float, float, FitLog]:
    """AUC over the rows of 40 videos after the first stage and after the second, and the log."""
    train, _ = one_patch(64, 1000 + seed)
    test, truth = one_patch(40, 2000 + seed)
    settings = {"steps": 60, "segments": 16, "branch_gain": gain, **more}
    detector = Staged(SSRLConfig.model_validate(settings))
    detector.test = test
    log = detector.fit(train, device="cpu", seed=seed)
    last = np.concatenate([detector.score(each).columns["score"] for each in test])
    auc = [100 * roc_auc_score(truth, values) for values in (detector.first, last)]
    return auc[0], auc[1], log


def test_patches_help_where_one_of_them_shows_the_event() -> None:
    """Means of three seeds, as in docs/results/weak.md."""
    small = [learned(seed, gain=SSRLConfig().branch_gain) for seed in range(3)]
    whole = [learned(seed, gain=1.0) for seed in range(3)]
    assert [auc for auc, _, _ in small] == [auc for auc, _, _ in whole], "the first stage is equal"
    frame, patches = (float(np.mean([run[i] for run in small])) for i in (0, 1))
    reference = float(np.mean([auc for _, auc, _ in whole]))
    assert 60 < frame < 75, frame
    assert patches > frame + 10, (patches, frame)
    assert patches > reference + 10, (patches, reference)
    assert all(log.warnings for _, _, log in whole)
    assert not any(log.warnings for _, _, log in small)
