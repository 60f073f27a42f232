"""What a training of MSMG draws from its footage, and from which videos.

The tasks take two clips of a video, the objective of the encoder a window, the decoder one clip. A
video that is too short for one of them serves the others.
"""

from __future__ import annotations

from ..extractors.networks.frame_estimation import FrameEstimator
from .base import Row
from .msmg_own import Samples
from .msmg_samples import ClipSamples, ProxySamples
from .msmg_settings import MSMGConfig
from .row_memory import RowMemory
from .windows import WindowSource

MANY = 0.1  # share of the batches without negatives from which there is a warning


class Footage:
    """Draws what is learnt from.

    Attributes:
        samples: of the tasks and of the encoder's own objective.
        clips: of the decoder; None without one.
        epoch: pairs, windows or clips of an epoch.
        prefetch: batches that are read ahead.

    Args:
        memory:
            Pictures of all videos.
        config:
            Of the detector.
        estimator:
            The encoder, if its own objective is trained.
        seed:
            Decides what is drawn.

    Raises:
        DetectorError: all videos are too short for something that is trained.
    """

    def __init__(
        self, memory: RowMemory, config: MSMGConfig, estimator: FrameEstimator | None, seed: int
    ) -> None:
        self._config, self._counts = config, memory.rows.counts
        self.prefetch = memory.prefetch
        self._needs: list[tuple[int, str, str]] = []  # frames, of what, who takes them
        self._proxies: ProxySamples | None = None
        self.clips: ClipSamples | None = None
        windows: WindowSource | None = None
        pair = 2 * config.length
        if config.tasks:
            self._proxies = ProxySamples(
                *(memory, config.length),
                equal_length=config.equal_length,
                negatives=config.negatives,
                gap=config.gap,
                seed=seed,
            )
            self._needs.append((pair, "two clips", "the tasks"))
        if estimator is not None:
            windows = WindowSource(memory, estimator.length, seed=seed)
            self._needs.append(
                (estimator.length, f"a window of {config.encoder}", "its own objective")
            )
        if config.decoder != "none":
            self.clips = ClipSamples(memory, config.length, seed=seed)
            self._needs.append((config.length, "a clip", "the decoder"))
        self.samples = Samples(self._proxies, windows)
        self._least = min(frames for frames, _, _ in self._needs)
        self.epoch = self._epoch(pair)

    def _epoch(self, pair: int) -> int:
        """Pairs of clips that fit into the videos without a common frame.

        Without a task short videos count too: as many as fit into all usable frames, 1 at least.
        """
        if self._config.tasks:
            return int((self._counts // pair).sum())
        return max(1, int(self._counts[self._counts >= self._least].sum()) // pair)

    @property
    def facts(self) -> Row:
        """Facts for the log: "videos", and with a task "pairs" and "negatives"."""
        facts: Row = {"videos": int((self._counts >= self._least).sum())}
        if self._proxies is not None:
            facts |= {"pairs": self.epoch, "negatives": self._proxies.negatives}
        return facts

    @property
    def warnings(self) -> list[str]:
        """Sentences about videos that are too short, and batches without negatives."""
        found = []
        for frames, what, who in self._needs:
            if short := int((self._counts < frames).sum()):
                found.append(
                    f"{short} of the training videos are shorter than {frames} frames, {what}: "
                    f"{who} cannot learn from them"
                )
        return [*found, *self._negatives_warnings()]

    def _negatives_warnings(self) -> list[str]:
        config, proxies = self._config, self._proxies
        wanted = "estimation" in config.tasks and config.negatives != "none" and config.omega < 1
        if proxies is None or not wanted:
            return []
        if proxies.negatives == "none":
            return [
                "all clips are of one video: estimation has no negatives of other scenes or "
                "videos, and learns by its triplet only"
            ]
        share, by = proxies.without_negatives(config.batch_size), proxies.negatives
        if share < MANY:
            return []
        other = ", or set negatives = video" if by == "scene" else ""
        return [
            f"about {share:.0%} of the batches are of one {by} and have no negatives: estimation "
            f"learns by its triplet only in these; set a larger batch_size{other}, or train on "
            f"more footage of other {by}s"
        ]
