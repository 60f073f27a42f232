"""Why a file is refused: one class per reason."""

from __future__ import annotations

from ...data_manifests.errors import VadpipeError


class DecodeError(VadpipeError, RuntimeError):
    """A file cannot be used as a video; the message says why and what to do next."""


class MissingFile(DecodeError):
    """The path does not exist or may not be read."""


class EmptyFile(DecodeError):
    """The file has no bytes."""


class NotAVideo(DecodeError):
    """The content is no video container, whatever the name says."""


class BrokenContainer(DecodeError):
    """It was a video container once, but the part that describes the frames is missing."""


class ForbiddenFormat(DecodeError):
    """A playlist, a picture or another format that is not opened as a video."""


class NoVideoStream(DecodeError):
    """The container holds no video stream (cover pictures do not count)."""


class NoDecoder(DecodeError):
    """There is no decoder for the codec."""


class NoFrames(DecodeError):
    """There is a video stream (or a folder), but not one frame comes out of it."""


class UnreadableImage(DecodeError):
    """A file of an image folder cannot be read as a picture."""


class UnsafeLink(DecodeError):
    """An image is a link that leads out of its folder."""


class MixedSizes(DecodeError):
    """The images of a folder differ in size."""


class NoFootage(DecodeError):
    """Only features of the video are at hand: there is nothing to decode."""


class SeekMismatch(DecodeError):
    """Frames after a seek are not those of the probe's table; decode `in_order(row)` instead."""


class FrameOrderError(DecodeError):
    """Frames were pushed out of order, with holes, or after the end."""


class OverLimit(DecodeError):
    """The file is larger, longer or wider than the limits allow (see `DecodeLimits`)."""


class CorruptFrames(DecodeError):
    """The video has damaged frames, and is not to be used then."""


class HostileVideo(DecodeError):
    """The file took the decoding process down; it is not opened again until somebody says so."""


class DecoderHang(HostileVideo):
    """No packet and no picture came for too long: the decoding process was killed."""


class DecoderCrash(HostileVideo):
    """The decoding process died in native code."""


class DecoderKilled(DecoderCrash):
    """The decoding process was killed from outside: that may have nothing to do with the file."""


class DecoderMemory(HostileVideo):
    """Decoding needed more memory than it may have."""
