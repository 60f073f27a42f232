"""The error of the cache."""

from __future__ import annotations

from ...data_manifests.errors import VadpipeError


class StoreError(VadpipeError, RuntimeError):
    """Something in the cache is missing or not what it should be."""
