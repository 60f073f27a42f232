from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from vadpipe.detectors.pseudo_anomaly import PseudoAnomaly
from vadpipe.detectors.pseudo_settings import PseudoAnomalyConfig


@pytest.mark.parametrize(
    ("changes", "needs", "twins"),
    [
        ({}, ("pixels", "flow", "frame"), {"perturbed_pixels", "perturbed_frame"}),
        ({"eta": "avenue"}, ("pixels", "flow", "frame"), {"perturbed_pixels", "perturbed_frame"}),
        ({"eta": (1, 0, 0)}, ("pixels",), {"perturbed_pixels"}),
        ({"eta": (1, 0, 0), "p_s": 0.0}, ("pixels",), set()),
        ({"eta": (1, 0, 0), "spatial": ("patch",)}, ("pixels",), set()),
        ({"eta": (0, 1, 0)}, ("flow",), set()),
        ({"eta": (0.6, 0.4, 0), "spatial": ("skip_frames",)}, ("pixels", "flow"), set()),
        ({"eta": (0, 0, 1), "features": "snippet"}, ("snippet",), {"perturbed_snippet"}),
        ({"p_s": 0.0, "learn_eta": True}, ("pixels", "flow", "frame"),
         {"perturbed_pixels", "perturbed_frame"}),
    ],
)  # fmt: skip
def test_a_part_without_a_weight_needs_nothing(
    changes: dict[str, Any], needs: tuple[str, ...], twins: set[str]
) -> None:
    detector = PseudoAnomaly(PseudoAnomalyConfig.model_validate(changes))
    assert detector.needs == needs and set(detector.twins) == twins
    assert all(name == f"perturbed_{role}" for name, role in detector.twins.items())
    assert len(detector.columns) == 2 + len(needs)
    assert len(detector.maps) == len({"pixels", "flow"} & set(needs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta": (0, 0, 0)}, "not all 0"),
        ({"eta": (1.2, -0.2, 0)}, "0 or more"),
        ({"eta": "ped3"}, "ucsd_ped2"),
        ({"scored_frame": 16}, "not in a window"),
        ({"scored_frame": 1, "stride": 4}, "do not lie"),
        ({"length": 12}, "multiple of 8"),
        ({"width": 95}, "multiple of 3"),
        ({"spatial": ("patch", "patch")}, "named twice"),
        ({"learn_eta": True, "eta": (1, 0, 0)}, "only one has a weight"),
        ({"learn_eta": True, "features": "snippet"}, "feature of every frame"),
        ({"semantic_batch": 5}, "multiple of 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PseudoAnomalyConfig.model_validate(changes)
