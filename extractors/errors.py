"""The error class of extractors: a setting or an input that cannot be used."""

from __future__ import annotations

from ..data_manifests.errors import VadpipeError


class ExtractorError(VadpipeError, ValueError):
    """A setting or an input that an extractor cannot work with."""
