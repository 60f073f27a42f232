"""Which videos, which splits, which labels."""

from collections.abc import Callable

from . import footage, pets2009, shanghaitech, synthetic, ucf_crime, ucsd_ped2, xd_violence
from .record import Manifest, ManifestError, VideoRecord
from .table import read_manifest, write_manifest

# Name on the command line -> function(root, **options) -> Manifest.
DATASETS: dict[str, Callable[..., Manifest]] = {
    "footage": footage.build,
    "pets2009": pets2009.build,
    "shanghaitech": shanghaitech.build,
    "synthetic": synthetic.build,
    "ucf_crime": ucf_crime.build,
    "ucsd_ped2": ucsd_ped2.build,
    "xd_violence": xd_violence.build,
}

__all__ = [
    "DATASETS",
    "Manifest",
    "ManifestError",
    "VideoRecord",
    "read_manifest",
    "write_manifest",
]
