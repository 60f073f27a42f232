"""The bench of msmg: shares and frames follow from the rates; all convolutions take part."""

from __future__ import annotations

from typing import Any

import pytest

from vadpipe.pipeline.bench import msmg as bench
from vadpipe.pipeline.bench.msmg import MSMGProblem, bench_msmg

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = MSMGProblem(
    side=8,
    frames=14,
    settings=(("length", 6), ("batch_size", 2), ("architecture", "shallow+narrow")),
)


def test_shares_and_frames_follow_from_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[list[tuple[int, ...]]] = []
    own = bench.recorded

    def spied(*given: Any) -> Any:
        layers = own(*given)
        recorded.append([tuple(x.shape) for _, x in layers])
        return layers

    monkeypatch.setattr(bench, "recorded", spied)
    monkeypatch.setattr(bench, "SHARING_WIDTH", 3)
    values, lines = bench_msmg(repeats=1, problem=SMALL)
    rates = {name.removeprefix("cnn3d: "): r["best"] for name, r in values["rates"].items()}
    shares = values["share_of_convolutions"]
    training = rates["training"] / rates["convolutions, training"]
    assert shares["cnn3d: training"] == pytest.approx(training)
    scoring = rates["scoring, stride 4"]
    share = scoring / rates["convolutions, forward"]
    assert shares["cnn3d: scoring, stride 4"] == pytest.approx(share)
    frames = scoring * 14 / 3  # windows begin at 0, 4, 8
    assert values["frames_per_second"]["cnn3d: scoring, stride 4"] == pytest.approx(frames)
    of_matmul = values["of_matmul"]["cnn3d: scoring, stride 4"]
    # The convolutions of the four clips and the frames of a window, and what is not convolution.
    work = {
        name: values["of_matmul"][f"cnn3d: {name}"] * values["matmul_gflops"] / rates[name]
        for name in ("scoring, stride 4", "convolutions, forward")
    }
    assert 1 <= work["scoring, stride 4"] / work["convolutions, forward"] < 2
    line = next(line for line in lines if line.startswith("cnn3d: scoring, stride 4 "))
    assert f"{100 * share:.0f} % of the convolutions, {frames:.1f} frames/s" in line
    assert line.endswith(f"{100 * of_matmul:.0f} % of matmul")
    for encoder, gain in values["gain_of_sharing"].items():
        shared, alone = (
            values["rates"][f"{encoder}: scoring, {how}"]["best"] for how in ("shared", "alone")
        )
        assert gain == pytest.approx(shared / alone)
        assert f"{encoder}: {gain:.2f} times as fast with what clips share" in lines
    assert set(values["gain_of_sharing"]) == {"unet", "mnad", "multipath_gru"}
    # Both clips of two pairs, then two single frames; the four clips of a window, then the window.
    assert [shape[:3] for shape in recorded[0]] == [
        (n, c, t) for n, t in ((4, 5), (2, 1)) for c in (3, 16, 32)
    ]
    assert [shape[:3] for shape in recorded[1]] == [(n, c, 5) for n in (4, 1) for c in (3, 16, 32)]
