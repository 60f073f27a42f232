"""Extractor `objects`: boxes of objects in every frame, and crops of them on request.

One row a frame on the axis `frame`, one row an object on the axis `object`. See
docs/extractors/objects.md for arrays and edge cases.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from ..data_manifests.plain_text import plain
from .base import ArraySpec, Config, Extractor, Precision, Rows, Runtime, one_row_each
from .clips import Clip, ClipRule
from .detection.box_flow import STATISTICS, box_flow
from .detection.choices import CHOICES, Request
from .detection.contract import Detections, ObjectDetector, joined
from .detection.crops import cut_crops
from .detection.motion import Motion, MotionSettings
from .detection.runs import encode_masks
from .detection.selection import Selection, pixel_box
from .detection.teacher import CropTeacher
from .detection.vectors import VECTORS, VectorChoice
from .networks.coco import COCO
from .networks.imagenet import CLASSES, TEACHERS
from .optical_flow import Method, SpanName
from .weights.cards import ResolvedWeights
from .weights.slots import Slots

log = logging.getLogger(__name__)

DETECTOR, TEACHER = "detector", "teacher"  # slots of weights
MOTION_VERSION = 2  # of the extractor where `motion` takes part: 1 saw nothing at a video's ends
SIDE = 2  # threads for crops and flow: where frames are found together, nothing else is left to do
USUAL_OBJECTS, USUAL_RUNS = 10.0, 60.0  # a frame, and an object, for estimates


class ObjectsConfig(Config):
    """Settings of `objects`.

    Attributes:
        detector: what finds boxes; see docs/extractors/objects.md.
        stride: frames from one row to the next.
        score: smallest score of a box; without a value that of the detector. The thresholds of
            papers are those of YOLOv3 (SSMTL, Sect. 4.2: 0.8, on Ped2 0.5).
        overlap: of two boxes with a larger intersection over union the one with the lower score is
            dropped, whatever their classes.
        min_width: smallest width of a box in pixels.
        min_height: smallest height of a box in pixels.
        masks: keep the pixels of each object within its box, as run lengths: "detector" takes the
            masks of maskrcnn, "motion" the foreground of `motion`, whatever finds the boxes;
            without a value there are none.
        max_objects: boxes a frame; those with the highest scores are kept.
        tile_scale: how much a frame is enlarged before it is cut into tiles of the network's size,
            which are looked at besides the whole frame; without a value there are no tiles.
        with_motion: add the boxes of `motion` to those of another detector.
        motion_reach: frames before and after from which `motion` takes the background.
        motion_samples: number of frames the background is the median of, an odd number.
        motion_threshold: a smoothed grey value (0 to 255) that differs by more is foreground.
        motion_area: smallest number of foreground pixels of an object.
        crop_context: frames before and after the object's own in its crops (SSMTL, Sect. 3.1: 3;
            for training 15); without a value there are no crops.
        crop_size: side of the crops (SSMTL, Sect. 3.1).
        teacher: a classifier whose 1000 values before the softmax are kept of every object, from
            its crop of `crop_size` (SSMTL, Sect. 3.3: ResNet-50); without a value there is none.
        teacher_size: side that the crop is resized to for the teacher.
        appearance: keep the teacher's pooled features too.
        reid: a network whose vector of each object tells persons apart; without a value there is
            none.
        pose: a network that says where the joints of a person are in each box; without a value
            there is none.
        flow: OpenCV's method for the motion inside each box; without a value there is none.
        flow_span: "around" is the flow from the frame before to the frame after, halved; "next"
            that from the frame to the next one, as `flow` has it by default.
        flow_scale: flow is computed on frames of this many times their size.
    """

    detector: Literal[
        "yolox", "yolov3", "yolov3_tiny", "fasterrcnn", "maskrcnn", "boxes", "motion"
    ] = "yolox"
    stride: PositiveInt = 1
    score: float = Field(default=CHOICES["yolox"].score, ge=0, le=1)
    overlap: float = Field(default=0.55, ge=0, le=1)
    min_width: float = Field(default=4.0, ge=0)
    min_height: float = Field(default=4.0, ge=0)
    masks: Literal["detector", "motion"] | None = None
    max_objects: PositiveInt = 500
    tile_scale: float | None = Field(default=None, gt=0, le=8)
    with_motion: bool = False
    motion_reach: PositiveInt = 25
    motion_samples: int = Field(default=11, ge=3, le=31)
    motion_threshold: float = Field(default=20.0, gt=0, lt=255)
    motion_area: PositiveInt = 40
    crop_context: int | None = Field(default=None, ge=0, le=31)
    crop_size: PositiveInt = 64
    teacher: Literal["resnet50", "efficientnet_lite0"] | None = None
    teacher_size: int = Field(default=224, ge=32)
    appearance: bool = False
    reid: Literal["osnet"] | None = None
    pose: Literal["keypointrcnn"] | None = None
    flow: Method | None = None
    flow_span: SpanName = "around"
    flow_scale: float = Field(default=1.0, gt=0, le=8)

    @model_validator(mode="before")
    @classmethod
    def _score_of_the_detector(cls, values: Any) -> Any:
        """Fill in the threshold of the detector, so that the key states it."""
        if isinstance(values, Mapping) and values.get("score") is None:
            choice = CHOICES.get(str(values.get("detector", "yolox")))
            return dict(values) if choice is None else {**values, "score": choice.score}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.with_motion and self.detector == "motion":
            raise ValueError("with_motion adds motion to another detector; this one is motion")
        if self.tile_scale is not None and not CHOICES[self.detector].tiles:
            raise ValueError(f"{self.detector} looks at no tiles: leave tile_scale out")
        if self.masks == "detector" and not CHOICES[self.detector].masks:
            makers = ", ".join(name for name, choice in CHOICES.items() if choice.masks)
            raise ValueError(
                f'{self.detector} makes no masks: take masks = "motion", or one that does: {makers}'
            )
        if self.masks == "detector" and (self.with_motion or self.tile_scale is not None):
            raise ValueError(
                'boxes of motion and of tiles have no masks of a network: take masks = "motion"'
            )
        if self.appearance and self.teacher is None:
            raise ValueError("appearance is a part of what a teacher computes: name a teacher")
        if self.flow is None and self.flow_span != "around":
            raise ValueError('flow_span is about flow: name a method, for example flow = "dis"')
        if self.motion_samples % 2 == 0:
            raise ValueError("motion_samples is an odd number: the frame itself is one of them")
        return self

    def vectors(self) -> dict[str, VectorChoice]:
        """The vectors that are kept, by role."""
        return {name: each for name, each in VECTORS.items() if getattr(self, name) is not None}

    @property
    def uses_motion(self) -> bool:
        """Whether `motion` finds boxes or makes masks."""
        return self.detector == "motion" or self.with_motion or self.masks == "motion"

    def motion(self) -> MotionSettings:
        """The settings of `motion`."""
        return MotionSettings(
            self.motion_reach, self.motion_samples, self.motion_threshold, self.motion_area
        )


class Objects(Extractor[ObjectsConfig]):
    """Boxes, scores and classes of objects; crops of them with `crop_context`."""

    name: ClassVar[str] = "objects"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = ObjectsConfig
    networks: ClassVar[Slots] = {
        DETECTOR: tuple(card for each in CHOICES.values() for card in each.cards),
        TEACHER: tuple(card for each in TEACHERS.values() for card in each.cards),
        **{name: tuple(each.cards) for name, each in VECTORS.items()},
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "motion": {"detector": "motion"},
        "boxes": {"detector": "boxes"},
        "crops": {"crop_context": 3},  # what SSMTL scores
        "training_crops": {"crop_context": 15},  # with the room that SSMTL draws gaps in
        "ped2": {"score": 0.1, "tile_scale": 3.0, "min_height": 12.0},  # people of 20 pixels
    }
    batch_size: ClassVar[int] = 4  # a clip may have 31 frames
    gpu_batch_size: ClassVar[int] = 4

    def __init__(
        self,
        config: ObjectsConfig,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(config, weights=weights, precision=precision)
        self._choice = CHOICES[config.detector]
        request = Request(
            self.weights.get(DETECTOR),
            precision,
            config.score,
            config.tile_scale,
            config.motion(),
            masks=config.masks == "detector",
        )
        self._detectors: list[ObjectDetector] = [self._choice.build(request)]
        self._motion = Motion(config.motion())
        if config.with_motion:
            self._detectors.append(self._motion)
        self._teacher: CropTeacher | None = None
        if config.teacher is not None:
            teacher, given = TEACHERS[config.teacher], self.weights[TEACHER]
            self._teacher = CropTeacher(teacher, given, precision, config.teacher_size)
        self._vectors = {
            name: each.build(self.weights[name]) for name, each in config.vectors().items()
        }
        self._selection = Selection(
            config.score, config.overlap, config.min_width, config.min_height, config.max_objects
        )

    @classmethod
    def networks_for(cls, config: ObjectsConfig) -> Slots:
        """The cards of the object detector, where it has any, of the teacher and of vectors."""
        slots = {DETECTOR: CHOICES[config.detector].cards}
        if config.teacher is not None:
            slots[TEACHER] = TEACHERS[config.teacher].cards
        slots |= {name: tuple(each.cards) for name, each in config.vectors().items()}
        return {slot: cards for slot, cards in slots.items() if cards}

    @classmethod
    def keeps_pixels_with(cls, config: ObjectsConfig) -> bool:
        """Crops are pixels."""
        return config.crop_context is not None

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """Two arrays a frame; boxes, scores, classes and crops an object; runs of masks."""
        config = self.config
        specs = [
            ArraySpec("objects", "int32", ("frame",), (), role="frame/objects"),
            ArraySpec("frame_size", "int32", ("frame", "side"), (2,), role="frame/size"),
            _of_objects("boxes", "float32", {"corner": 4}),
            _of_objects("scores", "float32"),
            _of_objects("objectness", "float32"),
        ]
        if self._choice.knows_classes:
            specs.append(_of_objects("classes", "float16", {"class": len(COCO)}))
        if config.crop_context is not None:
            side = config.crop_size
            frames = 2 * config.crop_context + 1
            sizes = {"time": frames, "row": side, "column": side, "channel": 3}
            specs.append(_of_objects("crops", "uint8", sizes))
        if config.teacher is not None:
            specs.append(_of_objects("teacher", "float16", {"class": CLASSES}))
            if config.appearance:
                sizes = {"feature": TEACHERS[config.teacher].features}
                specs.append(_of_objects("appearance", "float16", sizes))
        for name, each in config.vectors().items():
            specs.append(_of_objects(name, "float16", {"feature": each.features}))
        if config.flow is not None:
            specs.append(_of_objects("flow", "float32", {"statistic": len(STATISTICS)}))
        if config.masks is not None:
            dims = ("run", "value")
            specs.append(ArraySpec("mask_runs", "int32", dims, (3,), role="run/masks", ragged=True))
        return tuple(specs)

    @property
    def reach(self) -> int:
        """Frames before and after the row's own that are read."""
        reaches = [each.reach for each in self._detectors]
        if self.config.masks == "motion":
            reaches.append(self._motion.reach)
        if self.config.flow is not None:
            reaches.append(1)
        return max(self.config.crop_context or 0, *reaches)

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames with context on both sides; the video's first and last are repeated."""
        return ClipRule(1, self.config.stride, before=self.reach, after=self.reach)

    @property
    def copies(self) -> float:
        """Enlarged frames, and the samples of `motion`, come to what other extractors take."""
        config = self.config
        one = 0.0  # of a frame, for each byte of it
        if config.tile_scale is not None:
            one += 6 * config.tile_scale**2  # the frame, its tiles, and these as float32
        if config.flow is not None:
            one += 8 * config.flow_scale**2  # two frames, their grey values, the flow, its pyramids
        if config.uses_motion:
            one += 4 * config.motion_samples  # grey values as float32, three times
        return self.clip_copies + one / (2 * self.reach + 1)

    def computed_on(self, device: str) -> frozenset[str]:
        """Where the networks compute: object detectors, the teacher and vectors."""
        found = frozenset().union(*(each.computed_on(device) for each in self._detectors))
        if self._teacher is not None or self._vectors:
            found |= {device}
        return found or frozenset({"cpu"})

    def load(self, runtime: Runtime) -> None:
        """Load the object detector.

        Raises:
            WeightsError: the weights are damaged or do not belong to it.
        """
        for detector in self._detectors:
            detector.load(runtime)
        for other in (self._teacher, *self._vectors.values()):
            if other is not None:
                other.load(runtime)

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Find the objects of each frame, in the order of their scores."""
        found, parts = [], []
        with ThreadPoolExecutor(SIDE) as side:  # crops and flow while the next frame is looked at
            for clip, each in zip(clips, self._found(clips), strict=True):
                found.append(self._chosen(clip, each))
                parts.append(side.submit(self._inside, clip, found[-1]))
            inside, own = zip(*(part.result() for part in parts), strict=True)
        counts = np.array([len(each) for each in found], np.int32)
        sizes = np.array([clip.frames.shape[1:3] for clip in clips], np.int32)
        start = np.repeat(np.array([clip.frame_start for clip in clips], np.int64), counts)
        stop = np.repeat(np.array([clip.frame_stop for clip in clips], np.int64), counts)
        whole = joined(found)
        arrays: dict[str, NDArray[Any]] = {
            "boxes": whole.boxes,
            "scores": whole.scores,
            "objectness": whole.objectness,
        }
        if self._choice.knows_classes:
            arrays["classes"] = whole.classes
        for name in inside[0]:
            arrays[name] = np.concatenate([part[name] for part in inside])
        if self._teacher is not None:
            lessons = [self._teacher.look(each) for each in own]  # a frame at a time: the same bits
            arrays["teacher"] = np.concatenate([lesson.logits for lesson in lessons])
            if self.config.appearance:
                arrays["appearance"] = np.concatenate([lesson.features for lesson in lessons])
        for name, network in self._vectors.items():
            features = VECTORS[name].features
            looks = [
                network.look(c.frames[self.reach], each.boxes, features)
                for c, each in zip(clips, found, strict=True)
            ]
            arrays[name] = np.concatenate(looks)
        rows = {
            "frame": one_row_each(clips, {"objects": counts, "frame_size": sizes}),
            "object": Rows(start, stop, arrays, clip_start=start),
        }
        return rows if self.config.masks is None else {**rows, "run": self._runs(clips, found)}

    def _inside(
        self, clip: Clip, found: Detections
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.uint8]]:
        """What is computed from the pixels of each box without a network, and the own crops.

        The crops (n, side, side, 3) of the objects in their own frame are what the teacher looks
        at; without a teacher there may be none.
        """
        arrays: dict[str, NDArray[Any]] = {}
        config = self.config
        side = config.crop_size
        own = np.empty((0, side, side, 3), np.uint8)
        if config.crop_context is not None:
            arrays["crops"] = self._crops(clip, found, config.crop_context)
            own = np.ascontiguousarray(arrays["crops"][:, config.crop_context])
        elif self._teacher is not None:
            own = self._crops(clip, found, 0)[:, 0]
        if config.flow is not None:
            how = (config.flow, config.flow_scale, config.flow_span)
            arrays["flow"] = box_flow(clip, self.reach, found.boxes, *how)
        return arrays, own

    def _runs(self, clips: Sequence[Clip], found: Sequence[Detections]) -> Rows:
        runs = []
        for clip, each in zip(clips, found, strict=True):
            masks = each.masks
            if self.config.masks == "motion":
                foreground = self._motion.foreground(clip, self.reach)
                boxes = [pixel_box(box) for box in each.boxes]
                masks = tuple(foreground[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes)
            assert masks is not None  # settings with masks of a detector that has none are refused
            runs.append(encode_masks(masks, each.boxes, clip.frames.shape[2]))
        counts = [len(each) for each in runs]
        start = np.repeat(np.array([clip.frame_start for clip in clips], np.int64), counts)
        stop = np.repeat(np.array([clip.frame_stop for clip in clips], np.int64), counts)
        return Rows(start, stop, {"mask_runs": np.concatenate(runs)}, clip_start=start)

    def check_end(self, video: str, n_frames: int) -> None:
        """Refuse a video that is shorter than a boxes file says.

        Raises:
            ExtractorError: it is.
        """
        for detector in self._detectors:
            detector.check_end(video, n_frames)

    def check_videos(self, paths: Sequence[str]) -> None:
        """Refuse videos that a boxes file has one name for.

        Raises:
            ExtractorError: there are some.
            WeightsError: the converted file cannot be read.
        """
        for detector in self._detectors:
            detector.check_videos(paths)

    def _found(self, clips: Sequence[Clip]) -> Iterator[Detections]:
        """What the object detectors find in the middle frame of each clip, before any is chosen."""
        every = [detector.detect_each(clips, self.reach) for detector in self._detectors]
        return (joined(parts) for parts in zip(*every, strict=True))

    def _chosen(self, clip: Clip, found: Detections) -> Detections:
        kept, left_out = self._selection.apply(found, *clip.frames.shape[1:3])
        if left_out:
            log.warning(
                "%s: frame %d has %d objects, %d of them above max_objects = %d are left out",
                *(plain(clip.video), clip.frame_start, len(kept) + left_out, left_out, len(kept)),
            )
        return kept

    def _crops(self, clip: Clip, found: Detections, context: int) -> NDArray[np.uint8]:
        frames = clip.frames[self.reach - context : self.reach + context + 1]
        return cut_crops(frames, found.boxes, self.config.crop_size)

    def rows_a_clip(self, axis: str) -> float:
        """A guess of the objects a frame, for estimates."""
        return {"frame": 1.0, "object": USUAL_OBJECTS, "run": USUAL_OBJECTS * USUAL_RUNS}[axis]

    def flops(self, height: int, width: int) -> float:
        """Work of the object detector for one frame, with its tiles, and of the teacher."""
        from .detection.tiles import tiles_of

        views = 1
        if (scale := self.config.tile_scale) is not None:
            tiles = tiles_of(round(height * scale), round(width * scale), 416)
            views += len(tiles) if len(tiles) > 1 else 0
        total = views * self._choice.flops
        if self.config.teacher is not None:
            area = (self.config.teacher_size / 224) ** 2
            total += USUAL_OBJECTS * area * TEACHERS[self.config.teacher].flops
        for each in self.config.vectors().values():
            total += each.flops * (USUAL_OBJECTS if each.each else 1)
        return total

    def recipe(self) -> dict[str, Any]:
        """Without a torch network the precision changes nothing, so the key does not state it.

        Vectors that are not kept are not in it either, nor is the usual span of flow: keys are
        older than they are. The version is raised for `motion` alone, so that what networks found
        keeps its key.
        """
        facts = super().recipe()
        if self.config.uses_motion:
            facts["version"] = MOTION_VERSION
        absent = VECTORS.keys() - self.config.vectors().keys()
        if self.config.flow_span == "around":
            absent |= {"flow_span"}
        facts["config"] = {k: v for k, v in facts["config"].items() if k not in absent}
        in_torch = self._choice.torch or self._teacher is not None
        return facts if in_torch else {**facts, "precision": None}


def _of_objects(name: str, dtype: str, sizes: Mapping[str, int] | None = None) -> ArraySpec:
    sizes = sizes or {}
    dims, shape = ("object", *sizes), tuple(sizes.values())
    return ArraySpec(name, dtype, dims, shape, role=f"object/{name}", ragged=True)
