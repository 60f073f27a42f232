"""Why a file is refused: one class for each reason."""

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
    """There is a video stream (or a folder), but it has no frame."""


class UnreadableImage(DecodeError):
    """A file of an image folder cannot be read as a picture."""


class UnsafeLink(DecodeError):
    """An image is a link that leads out of its folder."""


class MixedSizes(DecodeError):
    """The images of a folder differ in size."""


class ChangedFile(DecodeError):
    """The file, or the folder of images, is not the one that was probed."""


class TouchedFile(ChangedFile):
    """It has changed while it was read: perhaps only its times, which reading it again tells."""


class NoFootage(DecodeError):
    """Only features of the video are at hand: there is nothing to decode."""


class SeekMismatch(DecodeError):
    """Frames after a seek are not those of the probe's table; decode `in_order(row)` instead."""


class FrameOrderError(DecodeError):
    """Frames were pushed out of order, with holes, or after the end."""


class OverLimit(DecodeError):
    """The file is larger, longer or wider than the limits allow (see `DecodeLimits`)."""


class CorruptFrames(DecodeError):
    """The video has damaged frames, and such videos are to be refused."""


class HostileVideo(DecodeError):
    """The file ended the decoding process; it is not opened again until a user asks for it."""


class DecoderHang(HostileVideo):
    """No packet and no picture came before the deadline: the decoding process was killed."""


class DecoderCrash(HostileVideo):
    """The decoding process died in native code."""


class DecoderKilled(DecoderCrash):
    """The decoding process was killed from outside, perhaps not because of the file."""


class DecoderMemory(HostileVideo):
    """Decoding needed more memory than the limit."""
