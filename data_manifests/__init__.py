"""Which videos, which splits, which labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .record import Manifest, ManifestError, VideoRecord
    from .table import read_manifest, write_manifest

# Name on the command line -> module and function(root, **options) -> Manifest.
PLACES = {
    "avenue": "avenue:build",
    "cross": "cross:build",
    "footage": "footage:build",
    "nwpu_campus": "nwpu_campus:build",
    "pets2009": "pets2009:build",
    "plaza": "plaza:build",
    "shanghaitech": "shanghaitech:build",
    "street_scene": "street_scene:build",
    "synthetic": "synthetic:build",
    "ubnormal": "ubnormal:build",
    "ucf_crime": "ucf_crime:build",
    "ucsd_ped2": "ucsd_ped2:build",
    "xd_violence": "xd_violence:build",
}

# Data sets that can be drawn -> module and function(root, **options) -> root.
DRAWN = {
    "plaza": "plaza:write_plaza",
    "synthetic": "synthetic:write_scene",
}

__all__ = [
    "DRAWN",
    "PLACES",
    "Manifest",
    "ManifestError",
    "VideoRecord",
    "read_manifest",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    """Import a type or function at its first use, so that commands start without pydantic."""
    from importlib import import_module

    for module in ("record", "table"):
        if name in __all__ and hasattr(found := import_module(f".{module}", __name__), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
