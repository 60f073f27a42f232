"""What the task engine calls of `data_manifests.leftovers`."""

from __future__ import annotations

from ...data_manifests.leftovers import name_semaphores, own_prefix, remove_leftovers

__all__ = ["name_semaphores", "own_prefix", "remove_leftovers"]
