"""What an extractor of one axis returns, without its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vadpipe.extractors.base import Extractor
from vadpipe.extractors.clips import Clip


def arrays_of(extractor: Extractor[Any], clips: Sequence[Clip]) -> Mapping[str, np.ndarray]:
    """Its arrays, name -> (n, ...)."""
    (rows,) = extractor.extract(clips).values()
    return rows.arrays
