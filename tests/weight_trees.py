"""Trees of weights that refer to their own parts."""

from __future__ import annotations

import random
from typing import Any

import numpy as np


def laughing(levels: int, leaf: Any) -> dict[str, Any]:
    """A few dicts that describe 2^levels places."""
    tree: dict[str, Any] = {"w": leaf}
    for _ in range(levels):
        tree = {"a": tree, "b": tree}
    return tree


def drawn(draw: random.Random, most: int = 30) -> dict[str, Any]:
    """Dicts that hold arrays, texts, and some of the dicts that were made before them."""
    made: list[Any] = ["text", np.arange(draw.randrange(9), dtype=np.float32)]
    for _ in range(draw.randrange(1, most)):
        made.append({f"k{i}": draw.choice(made[-6:]) for i in range(draw.randrange(4))})
    return {"top": made[-1]}


def places(tree: Any, prefix: str = "", most: int = 1 << 18) -> dict[str, Any] | None:
    """All arrays by their joined names, one place after another; None for more than `most`."""
    found: dict[str, Any] = {}
    waiting = [(prefix, tree)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}/{key}" if name else key, child) for key, child in value.items()]
        elif isinstance(value, np.ndarray):
            found[name] = value
        most -= 1
        if most < 0:
            return None
    return found
