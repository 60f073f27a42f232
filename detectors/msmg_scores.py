"""Errors of the windows of a video, by what MSMG has learnt (Sect. 3.5, eqs. 9-11).

A window of T frames has T - 2 clips that lack one inner frame each. They are cut on the device from
one read, go through the encoder together, and all readings share what it returns. Encoders that see
frames one by one compute what clips have in common once (`VideoEncoder.gathered`). A window counts
by the frame that is estimated worst. Embeddings of single frames are computed once a video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..extractors.networks.cnn3d import folded
from ..extractors.networks.frame_estimation import FrameEstimator
from ..extractors.networks.video_encoder import VideoEncoder, clips_of
from .base import Track
from .cells import cell_means
from .map_memory import even_blocks, items_at_once
from .msmg_losses import feature_error
from .msmg_network import MSMGNetwork, colours_innermost, network_input, with_motion
from .msmg_own import OWN_ERROR, own_errors
from .msmg_placing import Floats, Ints
from .msmg_settings import MSMGConfig
from .msmg_training import predicting_encoder
from .precision import bfloat16, widened

PIXELS_AT_ONCE = 4 * 110 * 128 * 128  # of the clips of some windows, or of single frames
VALUES_A_PIXEL = 16  # of the largest map of an encoder: cnn3d; the I3D ones have half as many
SMALLEST_ERROR = 1e-8  # is added: a perfect estimate has 80 dB
SALIENCE, RGB_ERROR = "salience", "rgb_error"


def rgb_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error of each pixel, summed over colours (eq. 9): (B, 3, H, W) -> (B, H, W)."""
    return (predicted - target).square().sum(1)


def negative_psnr(error: Floats) -> Floats:
    """Minus the peak signal-to-noise ratio in dB (eq. 10); the largest value is 1."""
    found: Floats = 10 * np.log10(error + SMALLEST_ERROR)
    return found


@dataclass(frozen=True)
class WindowErrors:
    """What was measured on the windows of a video.

    Attributes:
        values: "feature", "rgb", "continuity", "localisation", "own", "own_distance" -> (w,), as
            far as they were learnt.
        worst: of the first three that know one, (w,) number of the worst frame in its window.
        maps: "salience", "rgb_error", "own_error" -> (w, rows, columns).
    """

    values: dict[str, Floats]
    worst: dict[str, Ints]
    maps: dict[str, NDArray[np.float32]]


class Scorer:
    """The networks, ready to score: batch norms are parts of the convolutions where they can be.

    Attributes:
        clips: the encoder of clips.

    Args:
        networks:
            From a training.
        config:
            Of the detector.
        shares:
            Clips share what they have in common; False is for comparison.
    """

    def __init__(self, networks: nn.ModuleDict, config: MSMGConfig, *, shares: bool = True) -> None:
        network = networks["network"]
        assert isinstance(network, MSMGNetwork)
        self._config, self._network = config, network
        # A clip's own mean changes all of its frames: then clips have nothing in common.
        self._shares = shares and config.motion_gain == 1
        self._device = next(network.parameters()).device
        dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
        self.clips = _folded(network.encoder, dtype)
        with network.frame_statistics():
            self._frames = _folded(network.encoder, dtype)
        self._decoder = networks["decoder"] if config.decoder != "none" else None
        predicting = predicting_encoder(networks)
        shared = predicting is network.encoder
        self._predicting = self.clips if shared else _folded(predicting, dtype)

    def windows(self, track: Track, starts: Ints, scene: int) -> WindowErrors:
        """Measure the windows of a video.

        Args:
            track:
                Its pixels.
            starts:
                (w,) first frames; frames over the ends of the video are those at the ends.
            scene:
                Number of its scene; -1 is an unknown one.
        """
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            embedded = self._embedded(track, starts, scene)
            for chosen in np.array_split(starts, -(-len(starts) // self._at_once(track))):
                measured: dict[str, Tensor] = {}
                if self._reads_clips:
                    measured |= self._batch(track, chosen, scene, embedded)
                if self._config.own_weight:
                    measured |= self._own(track, chosen)
                for name, values in measured.items():
                    found.setdefault(name, []).append(values)
        joined = {name: torch.cat(parts).cpu().numpy() for name, parts in found.items()}
        worst = {n.removeprefix("worst/"): v for n, v in joined.items() if n.startswith("worst/")}
        maps = {
            name: cell_means(joined[name], self._config.cells).astype(np.float32)
            for name in (SALIENCE, RGB_ERROR, OWN_ERROR)
            if name in joined
        }
        columns = {
            name: values.astype(np.float64)
            for name, values in joined.items()
            if not name.startswith("worst/") and name not in maps
        }
        return WindowErrors(columns, worst, maps)

    def _at_once(self, track: Track) -> int:
        """Windows whose clips go through the encoder together."""
        side, length = self._config.side, self._config.length
        height, width = (side, side) if side else track.array.shape[1:3]
        frames = (length - 2) * (length - 1) if self._reads_clips else length
        return max(1, PIXELS_AT_ONCE // (frames * height * width))

    @property
    def _reads_clips(self) -> bool:
        """Whether clips that lack a frame are needed, and not only the encoder's own error."""
        return bool(self._config.tasks) or self._decoder is not None

    def _scene(self, scene: int, count: int) -> Tensor:
        return torch.full((count,), scene, dtype=torch.int64, device=self._device)

    def _encoded(self, encoder: VideoEncoder, clips: Tensor) -> Tensor:
        precise = self._config.precision == "fp32"
        with nullcontext() if precise else bfloat16(encoder, self._device):
            maps: Tensor = encoder(with_motion(clips, self._config.motion_gain))
        return widened(maps)

    def _encoded_at(self, encoder: VideoEncoder, pixels: Tensor, index: Tensor) -> Tensor:
        """Maps of the clips that are cut from (F, H, W, 3) at (B, T)."""
        if not (self._shares and encoder.shares_frames):
            size = self._clips_at_once(index, pixels)
            parts = [index[first:stop] for first, stop in even_blocks(len(index), size)]
            return torch.cat([self._encoded(encoder, clips_of(pixels, part)) for part in parts])
        precise = self._config.precision == "fp32"
        with nullcontext() if precise else bfloat16(encoder, self._device):
            maps = encoder.gathered(pixels, index)
        return widened(maps)

    def _clips_at_once(self, index: Tensor, pixels: Tensor) -> int:
        """Clips at (B, T) of the pixels (F, H, W, 3) that an encoder takes together."""
        values = index.shape[1] * pixels.shape[1] * pixels.shape[2] * VALUES_A_PIXEL
        # 4 bytes each in bf16 too: some of its maps are in fp32
        return max(2, items_at_once(len(index), 4 * values, self._device))

    def _embedded(self, track: Track, starts: Ints, scene: int) -> Tensor | None:
        """Embeddings of single frames, each computed once: (n, 128); None without task 3."""
        if "estimation" not in self._config.tasks:
            return None
        inner = starts[:, None] + np.arange(1, self._config.length - 1)
        wanted = np.unique(np.clip(inner, 0, len(track) - 1))
        height, width = track.array.shape[1:3]
        size = max(1, PIXELS_AT_ONCE // (8 * height * width))
        found: Tensor | None = None
        for at in _runs(wanted, size):
            frames = torch.from_numpy(track.rows(int(at[0]), int(at[-1]) + 1)).to(self._device)
            inputs = network_input(frames[:, None], self._config.side)
            maps = self._encoded(self._frames, inputs)
            rows = self._network.pooled(maps, self._scene(scene, len(at)))
            with self._network.frame_statistics():
                z = self._network.head("estimation", rows)
            if found is None:
                found = z.new_zeros((len(track), z.shape[1]))
            found[torch.from_numpy(at).to(self._device)] = z
        return found

    def _batch(
        self, track: Track, starts: Ints, scene: int, embedded: Tensor | None
    ) -> dict[str, Tensor]:
        """Measure some windows, which are read at once."""
        config, n, length = self._config, len(track), self._config.length
        index = np.clip(starts[:, None] + np.arange(length), 0, n - 1)  # (k, T) in the video
        low = int(index.min())
        block = torch.from_numpy(track.rows(low, int(index.max()) + 1)).to(self._device)
        pixels = network_input(block[None], config.side)[0].permute(1, 2, 3, 0)  # (F, H, W, 3)
        missing = np.arange(1, length - 1)
        kept = np.array([np.delete(np.arange(length), m) for m in missing])
        at = torch.from_numpy(index - low).to(self._device)
        clips = at[:, torch.from_numpy(kept).to(self._device)].flatten(0, 1)  # (k (T - 2), T - 1)
        frames = torch.from_numpy(index[:, 1:-1]).to(self._device)  # (k, T - 2)
        found: dict[str, Tensor] = {}
        maps: Tensor | None = None
        if {"localisation", "estimation"} & set(config.tasks):
            maps = self._encoded_at(self.clips, pixels, clips)
            rows = self._network.pooled(maps, self._scene(scene, len(clips)))
            if "localisation" in config.tasks:
                found |= self._localised(rows, len(starts))
            if embedded is not None:
                found |= self._estimated(rows, maps, embedded[frames])
        if "continuity" in config.tasks:
            whole = at[:, : length - 1] if config.equal_length else at
            rows = self._network.pooled(
                self._encoded_at(self.clips, pixels, whole), self._scene(scene, len(starts))
            )
            logits = self._network.head("continuity", rows)
            found["continuity"] = functional.softmax(logits, 1)[:, 1]
        if self._decoder is not None:
            own = self._predicting
            again = maps if own is self.clips else None
            found |= self._decoded(
                self._encoded_at(own, pixels, clips) if again is None else again,
                pixels[frames - low],
            )
        return found

    def _own(self, track: Track, starts: Ints) -> dict[str, Tensor]:
        """What the encoder itself is wrong by, in the middle frames of some windows."""
        config, encoder = self._config, self.clips
        assert isinstance(encoder, FrameEstimator)
        middles = np.clip(starts + config.length // 2, 0, len(track) - 1)
        precise = config.precision == "fp32"
        with nullcontext() if precise else bfloat16(encoder, self._device):
            return own_errors(encoder, track, middles, config.side, self._device)

    def _localised(self, rows: Tensor, windows: int) -> dict[str, Tensor]:
        """Task 2: the place that it is least sure of."""
        chance = functional.softmax(self._network.head("localisation", rows), 1)
        right = chance.reshape(windows, -1, chance.shape[1]).diagonal(dim1=1, dim2=2)  # (k, T - 2)
        value, place = (1 - right).max(1)
        return {"localisation": value, "worst/localisation": place + 1}

    def _estimated(self, rows: Tensor, maps: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Task 3: the largest error of an embedding, and where in the picture it comes from."""
        windows = len(target)
        with torch.enable_grad():
            pooled = rows.detach().requires_grad_()
            z = self._network.head("estimation", pooled).reshape(target.shape)
            value, place = feature_error(z, target).max(1)
            (slope,) = torch.autograd.grad(value.sum(), pooled)
        chosen = torch.arange(windows, device=maps.device) * target.shape[1] + place
        weight = slope[chosen].mean(2)[:, : maps.shape[1]]  # those of the scene have no place
        map_ = (maps[chosen].mean(2) * weight[:, :, None, None]).sum(1).relu()
        return {
            "feature": value.detach(),
            "worst/feature": place + 1,
            SALIENCE: map_,
        }

    def _decoded(self, maps: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The decoded frame: the largest error in a window, and its picture.

        Args:
            maps:
                Of the clips, (k (T - 2), C, T', H', W').
            target:
                (k, T - 2, H, W, 3) the missing frames.
        """
        assert self._decoder is not None
        wanted = target.flatten(0, 1).permute(0, 3, 1, 2)
        predicted = self._decoder(maps, (wanted.shape[2], wanted.shape[3]))
        errors = rgb_error(predicted.float(), wanted).reshape(target.shape[:4])
        value, place = errors.mean((2, 3)).max(1)
        picture = errors[torch.arange(len(target), device=maps.device), place]
        return {"rgb": value, "worst/rgb": place + 1, RGB_ERROR: picture}


def _folded(encoder: nn.Module, dtype: torch.dtype) -> VideoEncoder:
    found = folded(encoder, dtype)
    colours_innermost(found)
    assert isinstance(found, VideoEncoder)
    return found


def _runs(frames: Ints, size: int) -> Iterator[Ints]:
    """Parts of ascending numbers, each of neighbours, `size` at most."""
    for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1):
        for first in range(0, len(run), size):
            yield run[first : first + size]
