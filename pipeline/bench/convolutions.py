"""The 3-D convolutions of a network by themselves: what its speed is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...extractors.networks.fused import FusedConv
from .race import Rate

Recorded = Sequence[tuple[nn.Module, Tensor]]


def recorded(network: nn.Module, run: Callable[[], object]) -> list[tuple[nn.Module, Tensor]]:
    """Keep every 3-D convolution of a run, with its input.

    Args:
        network:
            Whose parts are looked at.
        run:
            Runs the network.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append((module, given[0].detach().clone(memory_format=torch.preserve_format)))

    kinds = (nn.Conv3d, nn.ConvTranspose3d, FusedConv)
    parts = [p for p in network.modules() if isinstance(p, kinds) and p.weight.dim() == 5]
    hooks = [part.register_forward_pre_hook(keep) for part in parts]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found


def run_forward(layers: Recorded, *, bf16: bool = False) -> None:
    """Run convolutions without gradients."""
    with torch.inference_mode(), _lowered(layers, bf16):
        for layer, x in layers:
            layer(x)


def run_training(layers: Recorded, *, bf16: bool = False) -> None:
    """Run convolutions forward and backward.

    As in a fit, there is no gradient of the pictures themselves, which the first one reads.
    """
    for layer, x in layers:
        deeper = layer is not layers[0][0]
        wanted = [*layer.parameters(), *([x.requires_grad_()] if deeper else [])]
        with _lowered(layers, bf16):
            out = layer(x)
        torch.autograd.grad(out, wanted, torch.ones_like(out))


def shares_of_convolutions(rates: Mapping[str, Rate]) -> dict[str, float]:
    """Compare training and scoring with the convolutions alone, by their best turns.

    Args:
        rates:
            Of contestants "SUBJECT: WHAT"; those of each subject are "convolutions, forward",
            "convolutions, training", "training", and others that are compared with the forward.

    Returns:
        Name of a contestant -> its share, without the convolutions themselves.
    """
    found = {}
    for name, rate in rates.items():
        subject, _, what = name.partition(": ")
        if not what.startswith("convolutions"):
            alone = "training" if what == "training" else "forward"
            found[name] = rate.best / rates[f"{subject}: convolutions, {alone}"].best
    return found


def _fused_flops(*shapes: Any, out_shape: Any, **_: Any) -> int:
    """Multiply-adds times two of a fused convolution, with a sum or without."""
    weight = shapes[2] if tuple(shapes[1]) == tuple(out_shape) else shapes[1]
    return int(2 * prod(out_shape) * prod(weight[1:]))


def gflop_of(run: Callable[[], object], amount: float) -> float:
    """Count 10^9 multiplications and additions of a run for each of its units."""
    fused = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)  # torch does not count it
    more = {fused: _fused_flops} if fused is not None else {}
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        run()
    return float(counter.get_total_flops()) / 1e9 / amount


def lines_of_rates(
    rates: Mapping[str, Rate],
    shares: Mapping[str, float],
    frames: Mapping[str, float],
    of_matmul: Mapping[str, float] | None = None,
) -> list[str]:
    """A line for people of each contestant; frames are stated of those that score."""
    lines = []
    for name, rate in rates.items():
        line = f"{name:42}{rate}"
        if name in shares:
            line += f"   {100 * shares[name]:.0f} % of the convolutions"
            line += f", {frames[name]:.1f} frames/s" if "scoring" in name else ""
        if of_matmul is not None and name in of_matmul:
            line += f", {100 * of_matmul[name]:.0f} % of matmul"
        lines.append(line)
    return lines


def _lowered(layers: Recorded, bf16: bool) -> torch.autocast:
    device = layers[0][1].device.type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=bf16)
