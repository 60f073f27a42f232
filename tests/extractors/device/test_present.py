"""Devices that are not there are said in one way, whatever asks for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vadpipe.extractors.device.present import check_device
from vadpipe.extractors.errors import ExtractorError


@pytest.mark.parametrize(
    ("count", "device", "said"),
    [
        (0, "cuda", r"there is no device 'cuda' \(0 CUDA devices found\): take cpu$"),
        (0, "cuda:0", r"there is no device 'cuda:0' \(0 CUDA devices found\): take cpu$"),
        (1, "cuda:1", r"\(1 CUDA devices found\): take cpu, or cuda:0$"),
        (4, "cuda:4", r"\(4 CUDA devices found\): take cpu, or cuda:0 to cuda:3$"),
        (4, "cuda:-1", "device 'cuda:-1' is unknown: take cpu, cuda or cuda:N"),
        (4, "cpu:0", "'cpu:0' is unknown"),
        (4, "mps", "'mps' is unknown"),
        (4, "", "'' is unknown"),
    ],
)
def test_devices_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, count: int, device: str, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ExtractorError, match=said):
        check_device(device)


def test_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    names = ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert [check_device(name) for name in names] == names


def test_fp32_is_fp32_on_cuda_whatever_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    parts: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [part.allow_tf32 for part in parts]
    try:
        for part in parts:
            part.allow_tf32 = True
        check_device("cpu")
        assert [part.allow_tf32 for part in parts] == [True, True]
        check_device("cuda:0")
        assert [part.allow_tf32 for part in parts] == [False, False]
    finally:
        for part, was in zip(parts, before, strict=True):
            part.allow_tf32 = was
