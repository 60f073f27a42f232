"""bf16: which parts run in it, which do not, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from vadpipe.detectors import precision
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.precision import all_widened, bfloat16, widened

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Out:
    x: Tensor
    name: str


class Pair(NamedTuple):
    a: Tensor
    b: Tensor | None


def half() -> Tensor:
    return torch.ones(2, dtype=torch.bfloat16)


def test_sixteen_bits_become_fp32_and_all_else_stays() -> None:
    assert widened(half()).dtype == torch.float32
    for dtype in (torch.float32, torch.float64, torch.int64):
        x = torch.ones(2, dtype=dtype)
        assert widened(x) is x


def test_tensors_are_found_in_every_container() -> None:
    found = all_widened(
        {"a": half(), "b": (half(), [half(), 3]), "c": Out(half(), "n"), "d": Pair(half(), None)}
    )
    tensors = [found["a"], found["b"][0], found["b"][1][0], found["c"].x, found["d"].a]  # type: ignore[index,attr-defined]
    assert all(t.dtype == torch.float32 for t in tensors)
    assert isinstance(found["d"], Pair) and isinstance(found["c"], Out)


def test_what_could_hide_tensors_is_refused() -> None:
    with pytest.raises(TypeError, match="hold a object"):
        all_widened([object()])


def test_layers_run_in_bf16_norms_and_weights_in_fp32() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Conv1d(8, 8, 1), nn.GroupNorm(2, 8), nn.Flatten()
    )
    network.append(nn.LayerNorm(48)).append(nn.Linear(48, 2))
    seen: dict[str, Any] = {}
    for name, part in network.named_children():
        part.register_forward_hook(lambda m, i, o, n=name: seen.update({n: (i[0].dtype, o.dtype)}))
    with bfloat16(network, CPU):
        out = network(torch.randn(3, 4, 8))
    out.float().sum().backward()
    full, low = torch.float32, torch.bfloat16
    assert seen["0"][1] == seen["2"][1] == seen["6"][1] == out.dtype == low
    assert seen["1"] == seen["3"] == seen["5"] == (full, full)
    assert all(p.dtype == full and p.grad is not None for p in network.parameters())
    assert all(p.grad.dtype == full for p in network.parameters() if p.grad is not None)
    assert not any(part._forward_pre_hooks for part in network.modules()), "nothing stays behind"
    assert not torch.is_autocast_enabled("cpu")


def test_a_gpu_without_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    with (
        pytest.raises(DetectorError, match="cuda:0 has no bfloat16"),
        bfloat16(nn.Linear(1, 1), torch.device("cuda:0")),
    ):
        pass


def test_autocast_that_switches_itself_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch only warns where a device cannot do it."""
    monkeypatch.setattr(precision.torch, "is_autocast_enabled", lambda device: False)  # type: ignore[attr-defined]
    with pytest.raises(DetectorError, match="cpu has no bfloat16"), bfloat16(nn.Linear(1, 1), CPU):
        pass
