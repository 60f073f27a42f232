"""Small generated video files for tests: every codec and container that seeking is tried on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vadpipe.extractors.footage.decode import FrameReader, read_frames
from vadpipe.extractors.footage.video import Frame, ProbeRow, Reading

WIDTH, HEIGHT, RATE = 96, 64, 25
N = 120  # frames of each coding in tests of decoding

X264 = "bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0:rc-lookahead=0:threads=1"
X265 = "bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0:rc-lookahead=4:pools=1:log-level=0"

# name: (container suffix, encoder, encoder options)
CODINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264-closed-mp4": (".mp4", "libx264", {"x264-params": X264 + ":open-gop=0"}),
    "h264-closed-mkv": (".mkv", "libx264", {"x264-params": X264 + ":open-gop=0"}),
    "h264-closed-avi": (".avi", "libx264", {"x264-params": X264 + ":open-gop=0"}),
    "h264-closed-ts": (".ts", "libx264", {"x264-params": X264 + ":open-gop=0"}),
    "h264-open-mp4": (".mp4", "libx264", {"x264-params": X264 + ":open-gop=1"}),
    "h264-open-mkv": (".mkv", "libx264", {"x264-params": X264 + ":open-gop=1"}),
    "h264-open-ts": (".ts", "libx264", {"x264-params": X264 + ":open-gop=1"}),
    "h264-refresh-mp4": (".mp4", "libx264", {"x264-params": X264 + ":intra-refresh=1"}),
    "h264-refresh-mkv": (".mkv", "libx264", {"x264-params": X264 + ":intra-refresh=1"}),
    "h264-refresh-ts": (".ts", "libx264", {"x264-params": X264 + ":intra-refresh=1"}),
    "hevc-closed-mp4": (".mp4", "libx265", {"x265-params": X265 + ":open-gop=0"}),
    "hevc-closed-mkv": (".mkv", "libx265", {"x265-params": X265 + ":open-gop=0"}),
    "hevc-open-mp4": (".mp4", "libx265", {"x265-params": X265 + ":open-gop=1"}),
    "hevc-open-mkv": (".mkv", "libx265", {"x265-params": X265 + ":open-gop=1"}),
    "hevc-open-ts": (".ts", "libx265", {"x265-params": X265 + ":open-gop=1"}),
    "mpeg4-avi": (".avi", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg4-mp4": (".mp4", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg4-mkv": (".mkv", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg2-ps": (".mpg", "mpeg2video", {"bf": "2", "g": "12"}),
    "mpeg2-ts": (".ts", "mpeg2video", {"bf": "2", "g": "12"}),
    "vp9-webm": (".webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "vp8-webm": (".webm", "libvpx", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "mjpeg-avi": (".avi", "mjpeg", {}),
}  # fmt: skip


def moving_picture(
    number: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0
) -> NDArray[np.uint8]:
    """Picture `number` of a film in which everything moves, (H, W, 3): no two frames are alike."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height, width, 3))
    row, column = np.mgrid[:height, :width]
    wave = 60 * np.sin((column + 5 * number) / 7) + 60 * np.cos((row - 3 * number) / 5)
    sprite = ((column - 2 * number) % width < 20) & ((row - number) % height < 20)
    picture = 128 + wave[..., None] + 0.25 * (np.roll(texture, 3 * number, 1) - 128)
    picture[sprite] = np.array([number * 5 % 256, 255 - number * 3 % 256, number * 11 % 256])
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_video(
    path: Path,
    *,
    frames: int | Iterable[NDArray[np.uint8]] = 120,
    encoder: str = "libx264",
    options: Mapping[str, str] | None = None,
    times: Iterable[int] | None = None,
    rotate: float | None = None,
    rate: int = RATE,
    pix_fmt: str | None = None,
) -> Path:
    """Encode pictures into `path`; its suffix names the container.

    Args:
        path: the file to write.
        frames: how many moving pictures, or the pictures.
        encoder: FFmpeg's encoder name.
        options: the encoder's options.
        times: presentation times in milliseconds; None for a constant rate.
        rotate: counter-clockwise degrees of the display matrix.
        rate: frames per second.
        pix_fmt: stored pixel format; None for 4:2:0.
    """
    pictures = [moving_picture(i) for i in range(frames)] if isinstance(frames, int) else frames
    stamps = None if times is None else list(times)
    with av.open(str(path), "w") as container:
        stream = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(encoder, rate=rate, options=dict(options or {}))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pix_fmt or ("yuvj420p" if encoder == "mjpeg" else "yuv420p")
                stream.codec_context.thread_count = 1
                if stamps is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
                if rotate is not None:
                    stream.set_display_rotation(rotate)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, rate) if stamps is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def write_coding(name: str, folder: Path, frames: int = 120) -> Path:
    """Write the coding of that name from `CODINGS` into `folder`."""
    suffix, encoder, options = CODINGS[name]
    return write_video(folder / (name + suffix), frames=frames, encoder=encoder, options=options)


def repeat_video(source: Path, path: Path, times: int) -> Path:
    """Play a video (constant rate, no B-frames) again and again, without encoding it again."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        stream = given.streams.video[0]
        out = container.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        length = stream.duration
        for turn in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts = packet.pts + turn * length
                copy.dts = packet.dts + turn * length
                copy.time_base = packet.time_base
                copy.is_keyframe = packet.is_keyframe
                copy.stream = out
                container.mux(copy)
    return path


def plain_decode(path: Path) -> list[np.ndarray]:
    """Every frame by PyAV's own loop: the oracle for pixels."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def marking(bad: Iterable[int]) -> Callable[..., FrameReader]:
    """The real decoder, whose frames are marked as damaged; stands for `guarded_frames`."""
    damaged = set(bad)

    def guarded_frames(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        def frames() -> Generator[Frame, None, None]:
            with read_frames(row, start) as reader:
                for frame in reader:
                    yield replace(frame, corrupt=frame.index in damaged)

        return FrameReader(row, frames(), Reading())

    return guarded_frames
