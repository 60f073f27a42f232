from __future__ import annotations

import numpy as np
import pytest

from vadpipe.detectors.indicators import ETA, Scale, as_published, combined, learnt_eta


def test_presets_are_weights_with_the_sum_one() -> None:
    assert all(sum(eta) == pytest.approx(1.0) for eta in ETA.values())
    assert ETA["shanghaitech"] == (0.85, 0.13, 0.02)


def test_the_published_score_against_eq_2_to_4_by_hand() -> None:
    psnr, flow, probability = [30.0, 20.0, 25.0], [2.0, 4.0, 6.0], [0.1, 0.9, 0.5]
    raw = {
        "spatial": -np.array(psnr),
        "temporal": np.array(flow),
        "semantic": np.array(probability),
    }
    eta = {"spatial": 0.5, "temporal": 0.3, "semantic": 0.2}
    omega_1 = [1 - (p - min(psnr)) / (max(psnr) - min(psnr)) for p in psnr]
    for norm in ("minmax", "literal"):
        omega_2 = [(f - 2) / 4 for f in flow] if norm == "minmax" else flow
        expected = [
            0.5 * a + 0.3 * b + 0.2 * c
            for a, b, c in zip(omega_1, omega_2, probability, strict=True)
        ]
        assert as_published(raw, eta, norm) == pytest.approx(expected)  # type: ignore[arg-type]
    without = {part: raw[part] for part in ("spatial", "temporal")}
    expected = [0.5 * a + 0.3 * b for a, b in zip(omega_1, flow, strict=True)]
    assert as_published(without, eta, "literal") == pytest.approx(expected)  # type: ignore[arg-type]


def test_a_constant_curve_is_zero() -> None:
    assert as_published({"spatial": np.full(3, -30.0)}, {"spatial": 1.0}, "minmax").tolist() == [
        0.0,
        0.0,
        0.0,
    ]


def test_the_comparable_sum_does_not_depend_on_the_other_frames_of_a_video() -> None:
    scales = {"spatial": Scale.of(np.array([-30.0, -28.0])), "temporal": Scale(0.0, 1.0)}
    eta = {"spatial": 0.5, "temporal": 0.5}
    raw = {"spatial": np.array([-29.0, -27.0, -25.0]), "temporal": np.array([0.0, 2.0, 1.0])}
    whole = combined(raw, eta, scales)  # type: ignore[arg-type]
    assert whole == pytest.approx([0.0, 2.0, 2.5])
    first = {part: values[:1] for part, values in raw.items()}
    assert combined(first, eta, scales)[0] == whole[0]  # type: ignore[arg-type]
    assert np.isfinite(Scale.of(np.full(3, 0.2)).standard(np.array([0.2, 0.4]))).all()


def test_learnt_weights_find_the_indicator_that_tells_the_classes_apart() -> None:
    random = np.random.default_rng(0)
    normal = random.normal(size=(200, 3))
    pseudo = random.normal(size=(200, 3))
    pseudo[:, 1] += 3.0
    pseudo[:, 2] -= 3.0  # lower for pseudo-anomalies: never a negative weight
    eta = learnt_eta(normal, pseudo)
    assert eta.sum() == pytest.approx(1.0)
    assert eta[1] > 0.9 and eta[2] == 0.0
    assert learnt_eta(normal, normal - 1.0).tolist() == [0.0, 0.0, 0.0]
