"""Heat-maps: a score map drawn over its frame, to a stated scale.

After SSRL, Sect. 4.5 and Fig. 6: the attention that each patch gets, over the frame, one picture a
patch size. Any map of any detector is drawn the same way.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field, field_validator, model_validator

from ...data_manifests.atomic import write_atomically
from ...data_manifests.settings import Settings
from ..scores.folder import ScoreFolder, ScoreFolderError
from ..scores.maps import ScoreMaps, Share
from ..store.errors import StoreError

SAMPLE_VALUES = 4_000_000  # most values that one scale is taken from
LONGEST_SIDE = 960  # pixels, of a picture file
BAR, BAR_COLOURS, TEXT_WIDTH = 34, 10, 420  # pixels below a picture file: in all, colours; its text
PICTURE_NAME = re.compile(r"\d{9,}_.+\.png")


class HeatmapStyle(Settings):
    """How maps are drawn.

    Attributes:
        upsample: "nearest" shows the patches as they are; "bilinear" runs between their centres
            and looks finer than what was measured.
        colours: name of a matplotlib colour map.
        alpha: share of the colour in a pixel; the rest is the frame.
        scale: what the first and the last colour stand for. "run": quantiles over all videos, so
            that colours compare between pictures. "video": quantiles over the video. "frame": the
            lowest and the highest value of the picture itself (SSRL, Sect. 4.5, normalises each
            mask by itself).
        low_quantile: of the values, for the first colour.
        high_quantile: of the values, for the last colour: robust against a few odd values, and far
            up because anomalies are rare.
    """

    upsample: Literal["nearest", "bilinear"] = "nearest"
    colours: str = "inferno"
    alpha: float = Field(default=0.5, gt=0.0, le=1.0)
    scale: Literal["run", "video", "frame"] = "run"
    low_quantile: float = Field(default=0.01, ge=0.0, le=1.0)
    high_quantile: float = Field(default=0.999, ge=0.0, le=1.0)

    @field_validator("colours")
    @classmethod
    def _known_colours(cls, value: str) -> str:
        from matplotlib import colormaps  # takes a while

        if value not in colormaps:
            raise ValueError(
                f"matplotlib has no colour map {value!r}; it has inferno, viridis, turbo, jet, ..."
            )
        return value

    @model_validator(mode="after")
    def _ordered(self) -> HeatmapStyle:
        if self.low_quantile >= self.high_quantile:
            raise ValueError(
                f"low_quantile {self.low_quantile} is not below high_quantile {self.high_quantile}"
            )
        return self

    def about_scale(self) -> str:
        """What the two ends of the colours are, in words."""
        if self.scale == "frame":
            return "lowest and highest value of the picture itself"
        whose = "all videos" if self.scale == "run" else "the video"
        return f"quantiles {self.low_quantile:g} and {self.high_quantile:g} of {whose}"


@dataclass(frozen=True)
class Heatmap:
    """One map at one frame.

    Attributes:
        name: of the map.
        values: (rows, columns); not finite where the detector says nothing.
        covered: share of the frame below the grid, see `upsample`.
        low: the value of the first colour.
        high: the value of the last colour.
    """

    name: str
    values: NDArray[np.float32]
    covered: Share
    low: float
    high: float


class Heatmaps:
    """The maps of a score folder, each with the scale that it is to be drawn to.

    Args:
        folder:
            Score folder.
        videos:
            All its videos: the scale of a run is over these.
        style:
            How maps are drawn.

    Attributes:
        damaged: video id -> what is wrong with its maps: they are not in the scale of the run.
    """

    def __init__(self, folder: Path, videos: Sequence[str], style: HeatmapStyle) -> None:
        self.style = style
        self.damaged: dict[str, str] = {}
        self._folder = ScoreFolder(folder)
        self._videos = tuple(videos)
        self._run: dict[str, tuple[float, float]] | None = None

    def of(self, video_id: str, frames: Sequence[int]) -> dict[int, list[Heatmap]]:
        """The maps of a video at some frames; maps without a finite value are left out.

        Raises:
            StoreError: the video's file of maps is not what it should be.
        """
        stored = self._folder.maps(video_id)
        if stored is None:
            return {frame: [] for frame in frames}
        scales: Mapping[str, tuple[float, float]] = {}
        if self.style.scale == "run":
            if self._run is None:
                self._run = self._measure(self._videos)
            scales = self._run
        elif self.style.scale == "video":
            scales = self._measure((video_id,))
        found: dict[int, list[Heatmap]] = {frame: [] for frame in frames}
        for frame in frames:
            for name, about in stored.maps.items():
                values = stored.at(name, frame)
                finite = values[np.isfinite(values)]
                if self.style.scale == "frame" and finite.size:
                    low, high = float(finite.min()), float(finite.max())
                elif finite.size and name in scales:
                    low, high = scales[name]
                else:
                    continue
                found[frame].append(Heatmap(name, values, about.covered, low, high))
        return found

    def _measure(self, videos: Sequence[str]) -> dict[str, tuple[float, float]]:
        """The two quantiles of each map over all rows of some videos; over evenly spaced rows where
        all would be more than `SAMPLE_VALUES` values."""
        opened: dict[str, ScoreMaps] = {}
        sizes: Counter[str] = Counter()
        for video_id in videos:
            try:
                maps = self._folder.maps(video_id)
            except StoreError as error:
                self.damaged[video_id] = str(error)
                continue
            if maps is not None:
                opened[video_id] = maps
                sizes.update({name: math.prod(about.shape) for name, about in maps.maps.items()})
        scales = {}
        for name, size in sizes.items():
            step = max(1, math.ceil(size / SAMPLE_VALUES))
            values = np.concatenate(list(self._sample(opened, name, step)))
            values = values[np.isfinite(values)].astype(np.float64)
            if len(values):
                low, high = np.quantile(values, (self.style.low_quantile, self.style.high_quantile))
                scales[name] = (float(low), float(high))
        return scales

    def _sample(
        self, opened: Mapping[str, ScoreMaps], name: str, step: int
    ) -> Iterator[NDArray[np.float32]]:
        """The values of every `step`-th row, counted over the borders of videos."""
        yield np.empty(0, np.float32)
        before = 0
        for video_id, maps in opened.items():
            if name not in maps.maps:
                continue
            try:
                yield maps.read(name, -before % step, None, step).ravel()
            except StoreError as error:
                self.damaged[video_id] = str(error)
            before += maps.maps[name].shape[0]


def upsample(
    values: NDArray[np.float32],
    size: tuple[int, int],
    *,
    method: Literal["nearest", "bilinear"] = "nearest",
    covered: Share = (1.0, 1.0),
) -> NDArray[np.float64]:
    """Spread a grid of patches over a picture.

    Patches are rectangles of equal size. "bilinear" takes the value of a patch to be that of its
    centre, and keeps the values of the outermost centres up to the border.

    Args:
        values:
            (rows, columns).
        size:
            (height, width) of the picture.
        method:
            Between the patches.
        covered:
            (height, width) of what the grid covers, from the top left, as shares of the picture.

    Returns:
        (height, width); NaN where the grid does not reach.
    """
    axes = (_places(*about, method) for about in zip(values.shape, size, covered, strict=True))
    (top, below, down, out_y), (left, right, along, out_x) = axes
    v = values.astype(np.float64)
    upper = _mix(v[top][:, left], v[top][:, right], along)
    lower = _mix(v[below][:, left], v[below][:, right], along)
    result = _mix(upper, lower, down[:, None])
    result[out_y] = np.nan
    result[:, out_x] = np.nan
    return result


def _places(
    cells: int, pixels: int, share: float, method: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """For every pixel of an axis: two cells, the weight of the second, whether it lies outside."""
    place = (np.arange(pixels) + 0.5) / (pixels * share) * cells  # in cells, from the border
    outside = place >= cells
    if method == "nearest":
        cell = np.minimum(place.astype(np.int64), cells - 1)
        return cell, cell, np.zeros(pixels), outside
    place = np.clip(place - 0.5, 0, cells - 1)
    cell = place.astype(np.int64)
    return cell, np.minimum(cell + 1, cells - 1), place - cell, outside


def _mix(
    a: NDArray[np.float64], b: NDArray[np.float64], weight: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    return a * (1 - weight) + b * weight


def draw_heatmap(
    pixels: NDArray[np.uint8], heatmap: Heatmap, style: HeatmapStyle
) -> NDArray[np.uint8]:
    """A map over its frame.

    Args:
        pixels:
            (H, W, 3) RGB.
        heatmap:
            Values outside its scale take the first or the last colour; a patch that is not finite,
            and what the grid does not cover, stays plain.
        style:
            Upsampling, colours, alpha.

    Returns:
        (H, W, 3) uint8, round(frame * (1 - alpha) + colour * alpha).
    """
    size = (pixels.shape[0], pixels.shape[1])
    spread = upsample(heatmap.values, size, method=style.upsample, covered=heatmap.covered)
    drawn = np.isfinite(spread)
    span = heatmap.high - heatmap.low
    level = np.where(drawn, spread - heatmap.low, 0.0) / (span if span > 0 else 1.0)
    mixed = _mix(pixels.astype(np.float64), _colours(np.clip(level, 0, 1), style), style.alpha)
    return np.where(drawn[..., None], np.rint(mixed), pixels).astype(np.uint8)


def _colours(level: NDArray[np.float64], style: HeatmapStyle) -> NDArray[np.float64]:
    """(...) in [0, 1] -> (..., 3) in [0, 255]."""
    from matplotlib import colormaps

    return np.asarray(colormaps[style.colours](level), dtype=np.float64)[..., :3] * 255


def colour_bar(style: HeatmapStyle, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The colours from the first to the last, left to right: (height, width, 3)."""
    row = np.rint(_colours(np.linspace(0, 1, size[1]), style)).astype(np.uint8)
    return np.repeat(row[None], size[0], axis=0)


def shrink(pixels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """An (H, W, 3) picture with no side longer than this; smaller ones stay as they are."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    return np.asarray(image)


# ------------------------------------------------------------------------------- picture files


def picture_path(folder: Path, video_id: str, frame: int, name: str) -> Path:
    """`<folder>/<video_id>/<frame>_<map>.png`; what a file name may not have becomes "-".

    Raises:
        ScoreFolderError: the id is not a folder name.
    """
    if Path(video_id).name != video_id or video_id == "..":
        raise ScoreFolderError(
            f"video id {video_id!r} is not a folder name: this folder was not written by score"
        )
    return folder / video_id / f"{frame:09d}_{re.sub('[^A-Za-z0-9._-]', '-', name)}.png"


def write_picture(
    path: Path, pixels: NDArray[np.uint8], heatmap: Heatmap, style: HeatmapStyle
) -> None:
    """Draw a map over its frame into a PNG file, with colours, name and scale below it.

    Args:
        path:
            The file.
        pixels:
            (H, W, 3) RGB; reduced to `LONGEST_SIDE`.
        heatmap:
            What to draw.
        style:
            How.
    """
    picture = draw_heatmap(shrink(pixels, LONGEST_SIDE), heatmap, style)
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (max(width, TEXT_WIDTH), height + BAR), "white")
    canvas.paste(Image.fromarray(picture), (0, 0))
    canvas.paste(Image.fromarray(colour_bar(style, (BAR_COLOURS, width))), (0, height))
    text = f"{heatmap.name}: {heatmap.low:.3g} to {heatmap.high:.3g}, {style.about_scale()}"
    ImageDraw.Draw(canvas).text((4, height + 14), text, "black", ImageFont.load_default(11))
    write_atomically(path, lambda p: canvas.save(p, "PNG"))


def remove_pictures(folder: Path, kept: Collection[Path]) -> None:
    """Delete pictures that carry names by `picture_path`, but for `kept`."""
    for path in folder.glob("*/*.png"):
        if path not in kept and PICTURE_NAME.fullmatch(path.name):
            path.unlink()
