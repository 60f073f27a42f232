"""One span for one extractor: frames become clips, clips become batches, batches become rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Any

from ...extractors.base import Extractor, Rows, Runtime
from ...extractors.clips import Clip, ClipAssembler, Span
from ...extractors.footage.limits import CorruptPolicy
from ...extractors.footage.video import Frame, ProbeRow
from .extractor_spec import ExtractorSpec
from .rows import GatheredRows, checked_rows

CALL_BYTES = 512 << 20  # of decoded clips that an extractor is given at once


class SpanWork:
    """Clips, batches and rows of one span for one extractor.

    Frames become clips, clips wait for a batch, and a batch goes to the second thread. At most two
    batches are in memory: the one that is computed and the one that fills up.

    Args:
        extractor:
            Loaded.
        spec:
            Of the extractor.
        span:
            The frames.
        row:
            The video.
        runtime:
            Where the extractor runs.
        side:
            The second thread.
        size:
            Which picture of a frame the extractor reads, see `Frame.at`.
    """

    def __init__(
        self,
        extractor: Extractor[Any],
        spec: ExtractorSpec,
        span: Span,
        row: ProbeRow,
        runtime: Runtime,
        side: Executor,
        size: int = 0,
    ) -> None:
        self.extractor = extractor
        self.span = span
        self.policy: CorruptPolicy = spec.on_corrupt
        self.assembler = ClipAssembler(spec.clip_rule(), span, row.path)
        # Of the video, also where smaller pictures come: batches of it have one size in every run.
        self._frame_bytes = row.height * row.width * 3
        self._picture = size
        self._perturb = spec.perturb
        self._runtime = runtime
        self._side = side
        self._clips: list[Clip] = []
        self._size = 1
        self._batch_ahead: tuple[Sequence[Clip], Future[dict[str, Rows]]] | None = None
        axes = dict.fromkeys(spec.axis for spec in extractor.arrays)
        self._gathered = {
            axis: GatheredRows([spec for spec in extractor.arrays if spec.axis == axis])
            for axis in axes
        }

    def push(self, frame: Frame) -> None:
        """Take the next frame."""
        self._take(self.assembler.push(frame.at(self._picture)))

    def ends_with(self, frame: Frame) -> bool:
        """Whether no later frame belongs to the span or to one of its clips."""
        return self.assembler.done and frame.index + 1 >= self.span.frame_stop

    def finish(self, n_frames: int) -> None:
        """Signal the end of the video, which has that many frames."""
        self._take(self.assembler.finish(n_frames))

    def _take(self, clips: Sequence[Clip]) -> None:
        for clip in clips:
            if clip.damaged and self.policy == "skip":
                continue
            if self._perturb is not None:
                rule = self.extractor.clip_rule
                clip = self._perturb.apply(clip, self.span.content_id, rule)
            self._clips.append(clip)
            if len(self._clips) >= (self._runtime.batch_size or self._size):
                self._flush()
                self._size = min(2 * self._size, self._most(clip))

    def _most(self, clip: Clip) -> int:
        """Clips in a full batch. Batches start at one clip and double, so work begins early."""
        on_cpu = self._runtime.device == "cpu"
        most = self.extractor.batch_size if on_cpu else self.extractor.gpu_batch_size
        return max(1, min(most, CALL_BYTES // (len(clip.frames) * self._frame_bytes)))

    def _flush(self) -> None:
        """Hand the batch over once the one before it is done: two are in memory at most."""
        self._take_batch()
        if self._clips:
            batch = self._side.submit(self.extractor.extract, self._clips)
            self._batch_ahead = (self._clips, batch)
            self._clips = []

    def _take_batch(self) -> None:
        if self._batch_ahead is None:
            return
        clips, batch = self._batch_ahead
        self._batch_ahead = None
        for axis, rows in checked_rows(self.extractor, clips, batch.result()).items():
            self._gathered[axis].add(rows)

    def rows(self) -> dict[str, Rows]:
        """All rows of the span by axis; there may be none."""
        self._flush()
        self._take_batch()
        return {axis: gathered.rows() for axis, gathered in self._gathered.items()}
