"""The network of MSMG: a shared video encoder, three heads, and a decoder of the missing frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ..extractors.networks.video_encoder import VideoEncoder

Task = Literal["continuity", "localisation", "estimation"]
TASKS: tuple[Task, ...] = ("continuity", "localisation", "estimation")
Position = Literal["pooled", "time_channel", "unpooled"]

HIDDEN, WIDER, EMBEDDED = 256, 512, 128  # P1 and P2, P3, z; the paper has no sizes
NARROWEST = 16  # channels of the last but one layer of the decoder


class PlaceHead(nn.Module):
    """P2 on maps that are averaged over space but not over time.

    Args:
        channels:
            C of the maps.
        places:
            T - 2 classes.
        position:
            "time_channel": the place in time, 0 to 1, is a channel of its own, and the average
            over time comes after the first layer. "unpooled": the classifier reads a row of
            numbers for each of its T - 1 frames.
    """

    def __init__(self, channels: int, places: int, position: Position) -> None:
        super().__init__()
        self.position, self.frames = position, places + 1
        self.norm = nn.BatchNorm1d(channels)
        self.first = nn.Conv1d(channels + (position == "time_channel"), HIDDEN, 1)
        self.last = nn.Linear(HIDDEN * (self.frames if position == "unpooled" else 1), places)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, C, T') -> (B, T - 2)."""
        rows = self.norm(rows)
        if self.position == "time_channel":
            time = torch.linspace(0, 1, rows.shape[2], device=rows.device, dtype=rows.dtype)
            rows = torch.cat([rows, time.expand(len(rows), 1, -1)], 1)
            found: Tensor = self.last(torch.relu(self.first(rows)).mean(2))
            return found
        if rows.shape[2] != self.frames:  # an encoder with a stride in time
            rows = functional.interpolate(rows, self.frames, mode="linear", align_corners=True)
        found = self.last(torch.relu(self.first(rows)).flatten(1))
        return found


class MSMGNetwork(nn.Module):
    """The encoder F and the heads P1, P2, P3 of those tasks that are trained.

    A batch norm stands before each head: averages over a whole picture hardly differ between clips,
    and a layer that sees them as they are learns slowly.

    Args:
        encoder:
            F.
        tasks:
            In the order of `TASKS`.
        length:
            T, frames of a clip.
        position:
            How P2 reads the maps: "pooled", averaged over space and time as the other heads, or
            as in `PlaceHead`.
        own_norms:
            Batch norms keep running statistics of single frames apart from those of clips; those
            of a frozen encoder never do.
        scenes:
            Number of scenes that have an embedding.
        embedding:
            Numbers of the embedding of a scene, which the heads read too; 0: none.
        motion_gain:
            As in `with_motion`.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        tasks: Sequence[Task],
        length: int,
        *,
        position: Position = "pooled",
        own_norms: bool = True,
        scenes: int = 0,
        embedding: int = 0,
        motion_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.tasks, self.length = encoder, tuple(tasks), length
        self.position, self.motion_gain = position, motion_gain
        self.scenes = nn.Embedding(scenes, embedding) if embedding else None
        channels = encoder.channels + embedding
        heads: dict[str, nn.Module] = {}
        if "continuity" in tasks:
            heads["continuity"] = _head(channels, HIDDEN, 2)
        if "localisation" in tasks:
            heads["localisation"] = (
                _head(channels, HIDDEN, length - 2)
                if position == "pooled"
                else PlaceHead(channels, length - 2, position)
            )
        if "estimation" in tasks:
            heads["estimation"] = _head(channels, WIDER, EMBEDDED)
        self.heads = nn.ModuleDict(heads)
        self.own_norms = own_norms and "estimation" in tasks
        self.statistics = FrameStatistics(self._seeing_frames) if self.own_norms else None

    def clips(self, clips: Tensor, scene: Tensor) -> Tensor:
        """Encode clips of any length: (B, 3, T, H, W) in [0, 1] -> (B, C', T'); see `pooled`."""
        return self.pooled(self.encoder(with_motion(clips, self.motion_gain)), scene)

    def frames(self, frames: Tensor, scene: Tensor) -> Tensor:
        """Embed single frames for task 3: (B, 3, 1, H, W) in [0, 1] -> (B, 128)."""
        with self.frame_statistics():
            return self.head("estimation", self.clips(frames, scene))

    def frame_statistics(self) -> AbstractContextManager[None]:
        """Put the running statistics of single frames in place until the end of the block."""
        if self.statistics is None:
            return nullcontext()
        return self.statistics.used_by(self._seeing_frames)

    @property
    def _seeing_frames(self) -> list[nn.Module]:
        """The parts whose batch norms see single frames, and learn."""
        head = self.heads["estimation"]
        return [head] if self.encoder.norms == "frozen" else [self.encoder, head]

    def pooled(self, maps: Tensor, scene: Tensor) -> Tensor:
        """Average maps over space, and add what is known of the scene.

        Args:
            maps:
                (B, C, T', H', W').
            scene:
                (B,) numbers of the scenes; -1 is an unknown one, which has the mean of all
                embeddings. Without embeddings it is not read.

        Returns:
            (B, C', T').
        """
        rows = maps.mean((3, 4))
        if self.scenes is None:
            return rows
        mean = self.scenes.weight.mean(0, keepdim=True)
        own = torch.cat([self.scenes.weight, mean])[scene]  # -1 is the last one
        return torch.cat([rows, own[:, :, None].expand(-1, -1, rows.shape[2]).to(rows.dtype)], 1)

    def head(self, task: Task, rows: Tensor) -> Tensor:
        """Run a head: (B, C', T') -> logits (B, 2) or (B, T - 2), or embeddings (B, 128)."""
        pooled = task != "localisation" or self.position == "pooled"
        found: Tensor = self.heads[task](rows.mean(2) if pooled else rows)
        return found


class FrameStatistics(nn.Module):
    """Running statistics of batch norms for single frames.

    A 3-D convolution sees zeros before and after a single frame, so its values are not those of
    clips. With one set of running statistics, neither fits in scoring.

    Args:
        modules: their batch norms are meant.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        for i, norm in enumerate(_norms(modules)):
            for name in ("running_mean", "running_var"):
                self.register_buffer(f"{name}_{i}", getattr(norm, name).clone())

    @contextmanager
    def used_by(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """Put these statistics in the place of those of clips, until the end of the block."""
        self._exchange(modules)
        try:
            yield
        finally:
            self._exchange(modules)

    def _exchange(self, modules: Sequence[nn.Module]) -> None:
        for i, norm in enumerate(_norms(modules)):
            for name in ("running_mean", "running_var"):
                ours, theirs = getattr(self, f"{name}_{i}"), getattr(norm, name)
                setattr(self, f"{name}_{i}", theirs)
                setattr(norm, name, ours)


class FrameDecoder(nn.Module):
    """Maps of a clip -> the missing frame: nearest neighbours and convolutions.

    The maps are averaged over time. The paper has no decoder; see docs/papers/msmg.md.

    Args:
        channels:
            C of the maps.
        ups:
            Times that height and width are doubled.
    """

    def __init__(self, channels: int, ups: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(ups):
            out = 3 if i + 1 == ups else max(NARROWEST, min(channels, WIDER) >> (i + 1))
            parts += [nn.Upsample(scale_factor=2, mode="nearest")]
            parts += [nn.Conv2d(channels, out, 3, padding=1)]
            if i + 1 < ups:
                parts += [nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.parts = nn.Sequential(*parts)

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, T', H', W') -> (B, 3, H, W)."""
        found: Tensor = self.parts(maps.mean(2))
        if tuple(found.shape[2:]) != size:
            found = functional.interpolate(found, size, mode="bilinear", align_corners=False)
        return found


def doublings(encoder: VideoEncoder, length: int, size: tuple[int, int]) -> int:
    """Count the doublings from the maps of an encoder to a picture of this size."""
    was = encoder.training
    encoder.eval()
    first = next(encoder.parameters())
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 3, length, *size, device=first.device))
    encoder.train(was)
    return max(1, math.ceil(math.log2(max(size[0] / maps.shape[3], size[1] / maps.shape[4]))))


def network_input(frames: Tensor, side: int | None) -> Tensor:
    """Scale stored frames to [0, 1]: (B, T, H, W, 3) uint8 -> (B, 3, T, H', W') float32.

    Colours stay the innermost axis (channels_last_3d), in which convolutions of a CPU take half
    the time.

    Args:
        frames:
            As stored.
        side:
            Height and width that they are resized to; None: as they are.
    """
    if side is None or frames.shape[2:4] == (side, side):
        return frames.permute(0, 4, 1, 2, 3).float().div_(255)
    pictures = frames.flatten(0, 1).permute(0, 3, 1, 2).float().div_(255)
    small = functional.interpolate(
        pictures, (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    clips = small.reshape(*frames.shape[:2], 3, side, side).transpose(1, 2)
    return clips.contiguous(memory_format=torch.channels_last_3d)


def with_motion(clips: Tensor, gain: float) -> Tensor:
    """Enlarge what moves: the difference of each picture of a clip from the mean of the clip.

    A fixed camera sees a background that is far stronger than the difference of two frames. The
    first batch norm scales by the background, and what tells a missing frame is lost below it.

    Args:
        clips:
            (B, 3, T, H, W).
        gain:
            Times that the difference is enlarged; 1 changes nothing. A single frame is its own
            mean and stays as it is.

    Returns:
        (B, 3, T, H, W), not limited to [0, 1].
    """
    if gain == 1:
        return clips
    return torch.lerp(clips.mean(2, keepdim=True), clips, gain)


def colours_innermost(module: nn.Module) -> None:
    """Keep the weights of 3-D convolutions in the order of `network_input`."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            part.to(memory_format=torch.channels_last_3d)


def _head(channels: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.BatchNorm1d(channels), nn.Linear(channels, hidden)),
        *(nn.ReLU(), nn.Linear(hidden, outputs)),
    )


def _norms(modules: Sequence[nn.Module]) -> list[_BatchNorm]:
    parts = [part for module in modules for part in module.modules()]
    return [part for part in parts if isinstance(part, _BatchNorm) and part.track_running_stats]
