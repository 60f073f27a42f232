"""What the rows of each bench are compared with, and why some have nothing to be compared with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Compared:
    """The two ends between which a rate lies.

    Attributes:
        limit: what the machine or a library can do at most, measured in the same run; or why
            nothing was.
        plain: the plain contestant that does the same; or why there is none.
    """

    limit: str
    plain: str


_NO_PLAIN_DETECTOR = (
    "none: no plain form of the published loop was written for this detector; its own convolutions "
    "are what it is compared with"
)

COMPARED = {
    "autoencoder": Compared(
        "its 3-D convolutions alone, in the same precision", _NO_PLAIN_DETECTOR
    ),
    "decode": Compared(
        "the decoder alone, without RGB; one copy",
        "three copies of a frame, and the reader that resizes; decoding has none: PyAV is the "
        "plain way, and what is asked for are its frames",
    ),
    "engine": Compared(
        "the time that spans spend in their tasks, and in the durable write",
        "none: a plain loop has no retries, no journal and no index to pay for",
    ),
    "extract": Compared(
        "the machine's matmul, and decoding alone",
        "none end to end: `bench network` has one for networks",
    ),
    "index": Compared("the same files, read by pyarrow and not looked at", "the same"),
    "msmg": Compared(
        "its 3-D convolutions alone; the machine's matmul",
        f"{_NO_PLAIN_DETECTOR}; for unet, mnad and multipath_gru each clip by itself",
    ),
    "nearest": Compared("numpy's matmul", "scikit-learn, as `knn` used it before"),
    "network": Compared("the machine's matmul", "the plain form of each network"),
    "objects": Compared(
        "the networks alone, on frames in memory",
        "none: public code runs the same detectors; the decoding and the crops beside them are "
        "what is measured",
    ),
    "page": Compared(
        "none: what a browser needs at least for so many rows cannot be measured beside it",
        "none: no other page shows such an archive",
    ),
    "scoring": Compared(
        "reading, computing and writing alone; `bench train` has the share of the matmul",
        "one step after the other",
    ),
    "shards": Compared("the bytes of the files alone", "format 2, as it was read before"),
    "ssmtl": Compared("its 3-D convolutions alone; the machine's matmul", _NO_PLAIN_DETECTOR),
    "startup": Compared("python -c pass", "the same"),
    "train": Compared(
        "the machine's matmul",
        "a plain form of the published loop of ssrl; none for rtfm: none was written",
    ),
    "windows": Compared("the same bytes, copied in memory", "the way of version 0.1"),
}
"""Bench -> what its rows are compared with."""


def compared_lines(bench: str) -> list[str]:
    """The last lines of a table."""
    found = COMPARED[bench]
    return [f"limit: {found.limit}", f"plain contestant: {found.plain}"]
