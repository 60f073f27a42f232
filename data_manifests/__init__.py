"""Which videos, which splits, which labels."""

from collections.abc import Callable

from . import footage, synthetic, ucsd_ped2
from .record import Manifest, ManifestError, VideoRecord
from .table import read_manifest, write_manifest

# Name on the command line -> function(root, **options) -> Manifest.
DATASETS: dict[str, Callable[..., Manifest]] = {
    "footage": footage.build,
    "synthetic": synthetic.build,
    "ucsd_ped2": ucsd_ped2.build,
}

__all__ = [
    "DATASETS",
    "Manifest",
    "ManifestError",
    "VideoRecord",
    "read_manifest",
    "write_manifest",
]
