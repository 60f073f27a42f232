"""Object detector `yolox`: any YOLOX network, from its ONNX file by ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..base import Runtime
from ..clips import Clip
from ..device.inference import OnDevice
from ..errors import ExtractorError
from ..networks.yolox import FILL, VALUES, cell_count, decode
from ..weights.cards import BYTES, ResolvedWeights, WeightsError
from ..weights.kept import read_converted
from .contract import Detections, detections_of, sure_enough
from .tiles import PictureDetector, fitted

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
MOST_TOGETHER = 4  # pictures at the same time: as many frames as `objects` is given at once
Turn = Callable[[Callable[[], Any]], Any]


class Yolox(PictureDetector):
    """YOLOX in fp32, each picture by itself, so that boxes do not depend on batches.

    On a CPU several pictures go through the network at the same time, one thread each: the threads
    of one picture wait for one another, and for whatever else the cores do.

    Args:
        weights:
            The ONNX file.
        least:
            Smallest score, objectness times the best class probability, of what is returned.
        scale:
            See `PictureDetector`.
    """

    def __init__(self, weights: ResolvedWeights, least: float, scale: float | None) -> None:
        super().__init__(scale)
        self._weights = weights
        self._least = least
        self._place: OnDevice | None = None
        self._session: Any = None
        self._pool: Executor | None = None
        self._input = ""
        self._side = 416

    @property
    def side(self) -> int:
        """Side of the network's input; known after `load`."""
        return self._side

    def computed_on(self, device: str) -> frozenset[str]:
        """The device, or the CPU where this ONNX Runtime cannot use a GPU."""
        import onnxruntime as ort

        used = self._session.get_providers() if self._session else ort.get_available_providers()
        return frozenset({device if CUDA in used else "cpu"})

    def load(self, runtime: Runtime) -> None:
        """Start ONNX Runtime: on a GPU where it was built for one, else on the CPU.

        It says so where a GPU was asked for and the CPU is used.

        Raises:
            WeightsError: random weights were asked for, or the file is no YOLOX network.
        """
        if self._weights.path is None:
            raise WeightsError(
                "YOLOX runs from an ONNX file and has no random weights: type `vadpipe weights "
                f"fetch {self._weights.card.name}`, or take another object detector"
            )
        content = read_converted(self._weights.path)[0][BYTES].tobytes()
        self._place = OnDevice(runtime)
        threads = runtime.threads or torch.get_num_threads()
        together = min(threads, MOST_TOGETHER) if runtime.device == "cpu" else 1
        # A run uses the thread that asks for it, and those that all runs have in common.
        shared = replace(runtime, threads=threads - together + 1)
        self._session = open_session(content, shared)
        self._pool = ThreadPoolExecutor(together, "yolox") if together > 1 else None
        (given, *more), outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(given.shape)
        side = shape[-1] if len(shape) == 4 else None
        cells = list(outputs[0].shape)[-2:]
        if more or not isinstance(side, int) or shape[1:] != [3, side, side]:
            raise WeightsError(
                f"this ONNX file takes {shape} instead of (1, 3, side, side): give a YOLOX export"
            )
        if cells != [cell_count(side), VALUES]:
            raise WeightsError(
                f"this ONNX file returns {cells} instead of {[cell_count(side), VALUES]}: give a "
                "YOLOX export for the 80 classes of COCO"
            )
        self._input, self._side = given.name, side
        if self.computed_on(runtime.device) != {runtime.device}:
            log.warning(
                "YOLOX computes on the CPU, not on %s: this ONNX Runtime cannot use it. Install "
                "onnxruntime-gpu in place of onnxruntime, or take another detector",
                runtime.device,
            )

    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The objects of each picture.

        Raises:
            ExtractorError: `load` was not called.
        """
        if self._place is None:
            raise ExtractorError("yolox: call load(runtime) first")
        if self._pool is None:
            return [self._picture(picture, self._place.turn) for picture in pictures]
        every = partial(self._pool.map, partial(self._picture, turn=_at_once), pictures)
        return self._place.turn(lambda: list(every()))

    def detect_each(self, clips: Sequence[Clip], at: int) -> Iterator[Detections]:
        """The objects of several frames, whose views are looked at together."""
        views = [self.views(clip.frames[at]) for clip in clips]
        found = iter(self.pictures([picture for each in views for picture in each.pictures]))
        return (each.together(list(islice(found, len(each.pictures)))) for each in views)

    def _picture(self, picture: NDArray[np.uint8], turn: Turn) -> Detections:
        square, factor, _ = fitted(picture, self._side, FILL, centred=False)
        values = _planes(square)
        cells = turn(lambda: self._session.run(None, {self._input: values})[0][0])
        found = decode(cells, self._side)
        found, scores = sure_enough(found, self._least)
        return detections_of(found[:, :4] / factor, scores, found[:, 4], found[:, 5:])


def _at_once(work: Callable[[], Any]) -> Any:
    """Work in the lane of the device already."""
    return work()


def _planes(square: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB (H, W, 3) to BGR (1, 3, H, W); channel by channel takes a third of the time."""
    values = np.empty((1, 3, *square.shape[:2]), np.float32)
    for channel in range(3):
        values[0, channel] = square[..., 2 - channel]
    return values


def open_session(content: bytes, runtime: Runtime) -> Any:
    """Start ONNX Runtime with the content of a file.

    Raises:
        WeightsError: it is no network that ONNX Runtime can run.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads or 0  # 0: its own number
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # Threads that wait in a loop take the cores from decoding, crops and flow.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if runtime.device.startswith("cuda") and CUDA in ort.get_available_providers():
        number = int(runtime.device.partition(":")[2] or 0)
        providers.insert(0, (CUDA, {"device_id": number}))
    try:
        return ort.InferenceSession(content, options, providers=providers)
    except Exception as error:  # its errors have no common base but Exception
        raise WeightsError(f"ONNX Runtime cannot run this file: {error}") from error
