"""Clips with a missing frame, cut from the sequences of objects: the tasks of MSMG on objects.

Zhang et al., CVPR 2024, put their tasks into the network of SSMTL (rows with a star in Table 3). A
clip of an object is its sequence of 2 t + 1 frames; the other clip of its pair is an object of the
same video, of frames that the first one does not have. See docs/papers/msmg.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .msmg_samples import NegativesBy, Proxies, negatives_for, without

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Partners:
    """The objects that the second clip of a pair may show, for each of some objects.

    All objects of a video are in one block, sorted by their frames.

    Attributes:
        order: (n,) object at each place of that sorting.
        begin: (n,) place at which the video of an object begins.
        earlier: (n,) objects of the video that are far enough before it.
        stop: (n,) place at which its video ends.
        later: (n,) objects of the video that are far enough after it.
    """

    order: Ints
    begin: Ints
    earlier: Ints
    stop: Ints
    later: Ints

    @classmethod
    def find(cls, video: Ints, frame: Ints, reach: int) -> Partners:
        """Look for objects of the same video that are at least `reach` frames away.

        Args:
            video:
                (n,) number of the video of each object.
            frame:
                (n,) its frame, 0 or more.
            reach:
                Frames of a clip.
        """
        wide = int(frame.max(initial=0)) + 2 * reach + 1  # no clip reaches into another video
        key = video * wide + frame
        order = np.argsort(key, kind="stable")
        key_sorted, video_sorted = key[order], video[order]
        begin = np.searchsorted(video_sorted, video, "left")
        stop = np.searchsorted(video_sorted, video, "right")
        before = np.searchsorted(key_sorted, key - reach, "right")
        after = np.searchsorted(key_sorted, key + reach, "left")
        return cls(order, begin, np.maximum(before - begin, 0), stop, np.maximum(stop - after, 0))

    @property
    def count(self) -> Ints:
        """(n,) how many each object has."""
        return self.earlier + self.later

    def draw(self, chosen: Ints, random: np.random.Generator) -> Ints:
        """Draw one for each of the chosen objects, uniform: (B,) -> (B,). All have to have some."""
        drawn = random.integers(self.count[chosen])
        earlier = self.earlier[chosen]
        before = self.begin[chosen] + drawn
        after = self.stop[chosen] - self.later[chosen] + drawn - earlier
        return self.order[np.where(drawn < earlier, before, after)]


def negative_groups(
    scenes: Sequence[str | None], videos: Sequence[str], negatives: NegativesBy
) -> Ints:
    """Number the groups of videos; objects of one group are no negatives of each other.

    Args:
        scenes:
            Of each video.
        videos:
            Names of the videos.
        negatives:
            What has to differ, see `negatives_for`.
    """
    found = negatives_for(negatives, scenes, videos)
    if found == "none":
        return np.zeros(len(videos), np.int64)
    names = [scene or "" for scene in scenes] if found == "scene" else list(videos)
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], np.int64)


def cut_pairs(clips: Tensor, others: Tensor, groups: Ints, random: np.random.Generator) -> Proxies:
    """Leave out an inner frame of the first clip of each pair, and an end of the second.

    So both have the same length, which tells nothing about the classes of continuity.

    Args:
        clips:
            (B, T, S, S, 3).
        others:
            The same shape, of the same videos.
        groups:
            (B,) from `negative_groups`.
        random:
            Where the frames come from.
    """
    count, length = clips.shape[:2]
    device = clips.device
    missing = torch.from_numpy(random.integers(1, length - 1, size=count)).to(device)
    ends = torch.from_numpy(np.where(random.integers(2, size=count), 0, length - 1)).to(device)
    group = torch.from_numpy(groups).to(device)
    return Proxies(
        broken=without(clips, missing),
        whole=without(others, ends),
        missing=clips[torch.arange(count, device=device), missing][:, None],
        place=missing - 1,
        same=group[:, None] == group[None],
        scene=group,
    )


def broken_clips(frames: Tensor) -> Tensor:
    """Leave out each inner frame in turn: (B, T, ...) -> (B (T - 2), T - 1, ...)."""
    length = frames.shape[1]
    kept = [[i for i in range(length) if i != m] for m in range(1, length - 1)]
    index = torch.tensor(kept, device=frames.device)
    return frames[:, index].flatten(0, 1)
