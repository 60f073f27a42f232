"""The network of SSMTL: a shared 3-D CNN, and a head for each proxy task (Sect. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..extractors.networks.cnn3d import Architecture, Cnn3d, Layer, Unit, layers_of
from .base import DetectorError
from .msmg_losses import feature_error
from .msmg_network import EMBEDDED
from .msmg_network import TASKS as MSMG_TASKS
from .msmg_network import Task as ContinuityTask
from .precision import widened
from .ssmtl_pairs import broken_clips

SSMTLTask = Literal["arrow", "irregularity", "middle", "distillation"]
Task = SSMTLTask | ContinuityTask
TASKS: tuple[SSMTLTask, ...] = ("arrow", "irregularity", "middle", "distillation")  # T1 to T4
CONTINUITY_TASKS: tuple[ContinuityTask, ...] = MSMG_TASKS
ALL_TASKS: tuple[Task, ...] = (*TASKS, *CONTINUITY_TASKS)
DETECTED = 80  # classes of the object detector: the last of the targets of distillation


class Head(nn.Module):
    """Convolution to 32 channels, pool, and a linear layer.

    Args:
        channels:
            Of the shared map.
        side:
            Of the shared map.
        outputs:
            2 for a class, the values of the teachers, the places of a missing frame, or those of an
            embedding.
    """

    def __init__(self, channels: int, side: int, outputs: int) -> None:
        super().__init__()
        self.unit = Unit(2, channels, 32, "space")
        self.linear = nn.Linear(32 * (side // 2) ** 2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, outputs)."""
        found: Tensor = self.linear(self.unit(x).flatten(1))
        return found


class Decoder(nn.Module):
    """The layers of the CNN in reverse: nearest neighbours for each pool, 2-D convolutions.

    Args:
        layers:
            Of the CNN.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        filters = [layer for layer in layers if isinstance(layer, int)]
        parts: list[nn.Module] = []
        for layer in reversed(layers):
            if isinstance(layer, int):
                channels = filters.pop()
                if filters:
                    parts.append(Unit(2, channels, filters[-1], "none"))
                else:  # the picture itself: linear, no norm
                    parts.append(nn.Conv2d(channels, 3, 3, padding=1))
            else:
                parts.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, 3, H, W)."""
        found: Tensor = self.parts(x)
        return found


class SSMTLNetwork(nn.Module):
    """The shared CNN and the heads of the tasks.

    Args:
        architecture:
            Of the CNN.
        deep_pools:
            See `layers_of`.
        tasks:
            In the order of `ALL_TASKS`.
        side:
            Of the pictures, in pixels.
        targets:
            Values of the teachers, those of the object detector last.
        t:
            Frames before and after the middle one; only localisation depends on it.

    Raises:
        DetectorError: the pictures are too small for the pools.
    """

    def __init__(
        self,
        architecture: Architecture,
        deep_pools: Literal[3, 4],
        tasks: Sequence[Task],
        side: int,
        targets: int,
        t: int = 3,
    ) -> None:
        super().__init__()
        layers = layers_of(architecture, deep_pools)
        self.encoder = Cnn3d(layers)
        small, rest = divmod(side, 2**self.encoder.pools)
        if rest or small < 2:
            raise DetectorError(
                f"{architecture} halves pictures {self.encoder.pools} times and its heads once "
                f"more: their side has to be a multiple of {2**self.encoder.pools}, and at least "
                f"{2 ** (self.encoder.pools + 1)}, not {side}"
            )
        outputs = {
            **{"arrow": 2, "irregularity": 2, "distillation": targets, "continuity": 2},
            **{"localisation": 2 * t - 1, "estimation": EMBEDDED},
        }
        self.tasks = tuple(tasks)
        self.heads = nn.ModuleDict(
            {
                task: Decoder(layers)
                if task == "middle"
                else Head(self.encoder.channels, small, outputs[task])
                for task in tasks
            }
        )

    def forward(self, task: Task, frames: Tensor) -> Tensor:
        """Run one task: (B, T, S, S, 3) uint8 -> the output of its head."""
        found: Tensor = self.heads[task](self.encoder(network_input(frames)))
        return found

    def scores(self, frames: Tensor, classes: Tensor | None) -> tuple[dict[Task, Tensor], Tensor]:
        """Compute what each task says of objects (the terms of eq. 6), in fp32 from the heads on.

        Of the clips that lack one inner frame, the worst counts (MSMG, Sect. 3.5).

        Args:
            frames:
                (B, 2 t + 1, S, S, 3) uint8.
            classes:
                (B, 80) what the object detector says, for distillation.

        Returns:
            Task -> (B,), and the absolute error of the middle frame, (B, S, S), averaged over
            colours; (0, S, S) without that task.
        """
        middle = frames.shape[1] // 2
        found: dict[Task, Tensor] = {}
        error = torch.empty(0, *frames.shape[2:4])
        if {"arrow", "irregularity"} & set(self.tasks):  # both see the same sequence
            shared = self.encoder(network_input(frames))
            for task in self.tasks:
                if task in ("arrow", "irregularity"):
                    found[task] = functional.softmax(widened(self.heads[task](shared)), 1)[:, 1]
        if "middle" in self.tasks:
            picture = widened(self("middle", without_middle(frames)))
            error = (picture - network_input(frames[:, middle : middle + 1])[:, :, 0]).abs().mean(1)
            found["middle"] = error.mean((1, 2))
        if "distillation" in self.tasks:
            assert classes is not None  # the detector has checked it
            said = widened(self("distillation", frames[:, middle : middle + 1]))[:, -DETECTED:]
            found["distillation"] = (said - classes).abs().mean(1)
        return {**found, **self._continuity_scores(frames)}, error

    def _continuity_scores(self, frames: Tensor) -> dict[Task, Tensor]:
        """What the tasks of MSMG say: (B, 2 t + 1, S, S, 3) -> task -> (B,)."""
        found: dict[Task, Tensor] = {}
        if "continuity" in self.tasks:  # as long as the clips of the training
            said = widened(self("continuity", frames[:, :-1]))
            found["continuity"] = functional.softmax(said, 1)[:, 1]
        if not {"localisation", "estimation"} & set(self.tasks):
            return found
        count, inner = len(frames), frames.shape[1] - 2
        shared = self.encoder(network_input(broken_clips(frames)))
        if "localisation" in self.tasks:
            chance = functional.softmax(widened(self.heads["localisation"](shared)), 1)
            right = chance.reshape(count, inner, inner).diagonal(dim1=1, dim2=2)
            found["localisation"] = (1 - right).amax(1)
        if "estimation" in self.tasks:
            single = frames[:, 1:-1].flatten(0, 1)[:, None]
            whole = widened(self("estimation", single))
            error = feature_error(widened(self.heads["estimation"](shared)), whole)
            found["estimation"] = error.reshape(count, inner).amax(1)
        return found


def network_input(frames: Tensor) -> Tensor:
    """(B, T, S, S, 3) uint8 -> (B, 3, T, S, S) float32 in [0, 1], in memory as it was.

    Colours stay the innermost axis (channels_last_3d), in which convolutions of a CPU take half
    the time.
    """
    return frames.permute(0, 4, 1, 2, 3).float().div_(255)


def without_middle(frames: Tensor) -> Tensor:
    """(B, 2 t + 1, ...) -> (B, 2 t, ...): what the middle frame is predicted from."""
    middle = frames.shape[1] // 2
    return torch.cat([frames[:, :middle], frames[:, middle + 1 :]], dim=1)
