"""Hostile and broken footage: each case ends in time, in whole features or in a typed error.

`VADPIPE_SOAK=1` takes the long form (`make soak`), whose cases differ from run to run.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.footage import moving_picture, write_coding, write_video
from vadpipe.data_manifests import footage
from vadpipe.extractors.clips import ClipRule, clip_count
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage import ends, errors
from vadpipe.extractors.footage.errors import DecodeError, FrameOrderError, NoFrames, SeekMismatch
from vadpipe.extractors.footage.guarded import end_idle, guarded_probe
from vadpipe.extractors.footage.image_folder import IMAGE_SUFFIXES, list_images
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.video import KeyFrames, ProbeRow, in_order
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.engine.planning import jobs_of, plan_videos
from vadpipe.pipeline.engine.settings import Engine, ProbeOptions
from vadpipe.pipeline.engine.span_task import run_job
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.store.failures import Failure, describe_failure
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import whole_videos
from vadpipe.pipeline.store.probe_table import Probed

pytestmark = pytest.mark.slow

SOAK = os.environ.get("VADPIPE_SOAK") == "1"
FILES, CUTS, FOLDERS = (700, 100, 200) if SOAK else (70, 10, 20)
DEADLINE = 300.0  # seconds for one case, probed and extracted, on a busy machine
N = 64  # frames: enough key frames to seek, four spans
LIMITS = DecodeLimits(pixels=1 << 22, seconds=20, memory=2 << 30)
ENGINE = Engine(span_frames=16, limits=LIMITS)
NULL = resolve_extractor("null")
CODED = (
    "h264-closed-mp4", "h264-open-mp4", "mpeg4-mp4", "h264-closed-mkv", "hevc-open-mkv", "vp8-webm",
    "vp9-webm", "h264-closed-avi", "mpeg4-avi", "mjpeg-avi", "h264-closed-ts", "mpeg2-ts",
)  # fmt: skip
BASES = (*CODED, "index-in-front.mp4", "fragments.mp4", "turned.mp4", "uneven.mkv")

# Where containers keep their sizes, rates and tables.
TAGS = (
    b"moov", b"mvhd", b"tkhd", b"mdhd", b"elst", b"stsd", b"avc1", b"avcC", b"stts", b"ctts",
    b"stss", b"stsc", b"stsz", b"stco", b"moof", b"tfhd", b"trun", b"mdat",
    b"RIFF", b"avih", b"strh", b"strf", b"movi", b"00dc", b"idx1",
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b",
    b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b", b"\x23\xe3\x83", b"\x2a\xd7\xb1", b"\xb0\x82",
    b"G@", b"\x00\x00\x01\xb3", b"\x00\x00\x01\xe0", b"\x00\x00\x01\x67",
)  # fmt: skip
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

# Not the base class and not wrong numbers of frames: those would be mistakes of ours.
TYPED = {
    kind.__name__
    for kind in [ExtractorError, *vars(errors).values()]
    if isinstance(kind, type) and issubclass(kind, DecodeError | ExtractorError)
} - {DecodeError.__name__, FrameOrderError.__name__}
suite_or_soak = functools.partial(
    settings,
    deadline=None,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
)


# ------------------------------------------------------------------------------- files to break


@functools.cache
def base_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="vadpipe-fuzz-"))


@pytest.fixture(scope="module", autouse=True)
def no_litter() -> Iterator[None]:
    yield
    shutil.rmtree(base_folder())
    for cached in (base_folder, base, whole_picture):
        cached.cache_clear()


@functools.cache
def base(name: str) -> tuple[str, bytes]:
    """Suffix and content of a sound file."""
    folder = base_folder()
    if name in CODED:
        path = write_coding(name, folder, N)
    elif name == "turned.mp4":
        path = write_video(folder / name, frames=N, rotate=90)
    elif name == "uneven.mkv":
        times = np.cumsum(np.random.default_rng(0).choice([20, 40, 100], N)).tolist()
        path = write_video(folder / name, frames=N, encoder="mpeg4", times=times)
    else:
        flags = "faststart" if name == "index-in-front.mp4" else "frag_keyframe+empty_moov"
        (folder / "source.mp4").write_bytes(base("h264-closed-mp4")[1])
        path = folder / name
        with (
            av.open(str(folder / "source.mp4")) as source,
            av.open(str(path), "w", options={"movflags": flags}) as sink,
        ):
            stream = sink.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    sink.mux(packet)
    return path.suffix, path.read_bytes()


# A place in a file: bytes from its start, or a share of it.
places = st.one_of(st.integers(0, 4095), st.floats(0, 1))
lengths = st.one_of(st.integers(1, 64), st.integers(1, 1 << 14))
numbers = st.tuples(
    st.sampled_from(EXTREMES), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["big", "little"])
)
changes = st.one_of(
    st.tuples(st.just("cut"), places),
    st.tuples(
        st.just("flip"), st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=40)
    ),
    st.tuples(st.just("fill"), places, lengths, st.sampled_from([0x00, 0xFF, None])),
    st.tuples(st.just("drop"), places, lengths),
    st.tuples(st.just("repeat"), places, lengths),
    st.tuples(st.just("number"), places, numbers),
    st.tuples(
        st.just("field"), st.sampled_from(TAGS), st.integers(0, 3), st.integers(-8, 96), numbers
    ),
    st.tuples(st.just("head of"), st.sampled_from(BASES), places),
    st.tuples(st.just("tail of"), st.sampled_from(BASES), places),
)


def position(place: int | float, size: int) -> int:
    return min(size, place if isinstance(place, int) else int(place * size))


def overwritten(data: bytes, at: int, new: bytes) -> bytes:
    """Bytes beyond the end are lost."""
    return (data[:at] + new + data[at + len(new) :])[: len(data)]


def changed(data: bytes, change: tuple[Any, ...]) -> bytes:
    """The file after one mishap."""
    kind, first, *rest = change
    if kind == "flip":
        flipped = bytearray(data)
        for place, bit in first:
            if data:
                flipped[min(position(place, len(data)), len(data) - 1)] ^= 1 << bit
        return bytes(flipped)
    if kind == "field":
        nth, offset, (value, width, order) = rest
        parts = data.split(first)
        if len(parts) < 2:
            return data
        at = len(first.join(parts[: 1 + nth % (len(parts) - 1)])) + len(first) + offset
        new = (value % 256**width).to_bytes(width, order)
        return overwritten(data, max(0, at), new)
    if kind in ("head of", "tail of"):
        other = base(first)[1]
        at = position(rest[0], len(data))
        return other[:at] + data[at:] if kind == "head of" else data[:at] + other[at:]
    at = position(first, len(data))
    if kind == "cut":
        return data[:at]
    if kind == "fill":
        length, value = rest
        new = np.random.default_rng(at).bytes(length) if value is None else bytes([value]) * length
        return overwritten(data, at, new)
    if kind == "drop":
        return data[:at] + data[at + rest[0] :]
    if kind == "repeat":
        return data[: at + rest[0]] + data[at:]
    value, width, order = rest[0]
    return overwritten(data, at, (value % 256**width).to_bytes(width, order))


# --------------------------------------------------------------------------------- what has to be


Ending = tuple[ProbeRow | None, Failure | None]
Run = Callable[[Path, Path, bool], Ending]


def by_the_engine(path: Path, cache: Path, decode: bool) -> Ending:
    """Probe and extract as the command line does, with all that hands out tasks."""
    manifest = footage.build(path)
    probed = probe_files(manifest, cache, ProbeOptions(decode=decode, limits=LIMITS))
    done = extract_features(manifest, probed, [NULL], cache, engine=ENGINE)
    failures = [*probed.failures, *done.failures]
    assert len(failures) + len(done.rows) == 1
    again = extract_features(manifest, probed, [NULL], cache, engine=ENGINE)
    assert failures or (again.written == 0 and not again.failures)
    return next(iter(probed.rows.values()), None), failures[0] if failures else None


def by_its_tasks(path: Path, cache: Path, decode: bool) -> Ending:
    """The same tasks one after the other, in this thread."""
    row = None
    try:
        row = guarded_probe(path, decode=decode, limits=LIMITS)
        try:
            run_all(row, cache)
        except SeekMismatch:
            assert not row.sequential_only
            FeatureStore(cache, NULL.recipe()).remove_video(row.content_id)
            run_all(in_order(row), cache)
    except (DecodeError, ExtractorError) as error:
        return row, describe_failure(path.name, "extract", error)
    return row, None


def run_all(row: ProbeRow, cache: Path) -> None:
    store = FeatureStore(cache, NULL.recipe())
    for plan in plan_videos(Probed({"it": row}), [store], ENGINE.span_frames):
        for job in jobs_of(plan, [NULL], cache, ENGINE, ENGINE.runtime()):
            run_job(job)


def check_ending(path: Path, cache: Path, run: Run, decode: bool) -> str:
    """See that footage ends in time, in whole features or in an error that names it; gives which.

    Args:
        path: a file or a folder of images.
        cache: a new cache.
        run: what probes and extracts it.
        decode: the probe decodes everything.
    """
    begin = time.monotonic()
    row, failure = run(path, cache, decode)
    seconds = time.monotonic() - begin
    assert seconds < DEADLINE, f"it took {seconds:.0f} seconds"

    store = FeatureStore(cache, NULL.recipe())
    store.rebuild_index()
    assert store.verify() == []
    assert not list(cache.rglob("*.tmp"))
    if failure is not None:
        assert failure.error in TYPED, f"{failure.error}: {failure.message}"
        assert str(path) in failure.message, f"{failure.error} names no file: {failure.message}"
        assert row is None or not whole_videos(store, [row.content_id])
        return failure.error

    assert row is not None and whole_videos(store, [row.content_id])
    features = store.read(row.content_id)
    n = features.n_frames
    starts = np.arange(clip_count(n, ClipRule())) * 16
    assert n > 0 and features.frame_start.tolist() == starts.tolist()
    assert features.frame_stop.tolist() == np.minimum(starts + 16, n).tolist()
    values = features.arrays["statistics"][:]
    assert values.shape == (len(starts), 8) and np.isfinite(values).all()
    flags = set(features.flags)
    assert flags >= set(row.flags) - {"sequential_only"}
    assert features.damaged == 0 or "corrupt_frames" in flags
    assert n == row.n_frames or ("header_mismatch" in flags and not decode)
    return "flagged" if flags - {"sequential_only"} else "sound"


def decoders() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "vadpipe.extractors.footage.decode_worker" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def check_endings(endings: Counter[str]) -> None:
    """The cases were of every kind, and have left no more decoders than work at once."""
    if endings.total() >= 50:
        assert endings["sound"] and endings["flagged"]
        assert endings.total() > endings["sound"] + endings["flagged"]
    assert len(decoders()) <= 4
    end_idle()
    assert not decoders()


RUNS = pytest.mark.parametrize(
    ("run", "share"),
    [(by_its_tasks, 0.85), (by_the_engine, 0.15)],
    ids=["tasks", "engine"],
)


@RUNS
def test_broken_files(run: Run, share: float) -> None:
    endings: Counter[str] = Counter()

    @suite_or_soak(max_examples=round(FILES * share))
    @given(st.sampled_from(BASES), st.lists(changes, min_size=1, max_size=3), st.booleans())
    def check(name: str, mishaps: list[tuple[Any, ...]], decode: bool) -> None:
        suffix, data = base(name)
        for mishap in mishaps:
            data = changed(data, mishap)
        assume(data != base(name)[1])
        with tempfile.TemporaryDirectory(dir=base_folder()) as folder:
            path = Path(folder) / f"broken{suffix}"
            path.write_bytes(data)
            endings[check_ending(path, Path(folder) / "cache", run, decode)] += 1

    check()
    check_endings(endings)


def test_a_cut_that_costs_frames_is_flagged() -> None:
    @suite_or_soak(max_examples=CUTS)
    @given(st.sampled_from(BASES), st.floats(0.05, 0.999))
    def check(name: str, share: float) -> None:
        suffix, data = base(name)
        cut = data[: int(share * len(data))]
        assume(suffix != ".ts" or len(cut) % ends.TS_PACKET)  # else nothing tells of it
        path = base_folder() / f"cut{suffix}"
        path.write_bytes(cut)
        try:
            row = guarded_probe(path, decode=True, limits=LIMITS)
        except DecodeError as error:
            assert type(error).__name__ in TYPED and str(path) in str(error)
        else:
            assert row.n_frames == N or "truncated" in row.flags

    check()


# --------------------------------------------------------------------------------- image folders


@functools.cache
def whole_picture(suffix: str, number: int, mode: str) -> bytes:
    """An image file, of another size or another kind of pixels than most."""
    pixels = moving_picture(number, *((24, 40) if mode == "large" else (24, 32)))
    image = Image.fromarray(pixels)
    if mode == "palette" and suffix not in (".jpg", ".jpeg"):
        image = image.quantize(16)
    elif mode == "grey":
        image = image.convert("L")
    elif mode == "deep" and suffix in (".png", ".tif"):
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "fractions" and suffix == ".tif":
        image = Image.fromarray(pixels[..., 0].astype(np.float32))
    exif = Image.Exif()
    if mode == "turned":
        exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[suffix], exif=exif)
    return buffer.getvalue()


picture_kinds = st.sampled_from(
    ["plain"] * 9 + ["large", "palette", "grey", "deep", "fractions", "turned"]
)
picture_damage = st.one_of(
    st.none(),
    st.sampled_from([b"", b"no picture\n", b"GIF89a" + bytes(40), b"%!PS-Adobe EPSF\n"]),
    st.lists(changes.filter(lambda change: " of" not in change[0]), min_size=1, max_size=3),
)
folders = st.fixed_dictionaries(
    {
        "numbers": st.one_of(
            st.integers(2, 40).map(lambda n: list(range(n))),
            st.lists(st.integers(0, 10**6), min_size=2, max_size=24, unique=True),
        ),
        "name": st.sampled_from(["{}", "img{:04d}", "{}-of-9", "Kamera ä {}", "{}.{}"]),
        "suffix": st.sampled_from(sorted(IMAGE_SUFFIXES)),
        "kind": picture_kinds,
        "others": st.lists(
            st.tuples(
                st.integers(0, 39),
                st.sampled_from(sorted(IMAGE_SUFFIXES)),
                picture_kinds,
                picture_damage,
            ),
            max_size=3,
        ),
        "also": st.sets(st.sampled_from([".hidden.png", "Thumbs.db", "sub.png/", "notes"])),
    }
)


def write_folder(folder: Path, recipe: dict[str, Any]) -> Path:
    """A folder of pictures, some of which are not like the others."""
    folder.mkdir()
    suffix, kind = recipe["suffix"], recipe["kind"]
    for number in recipe["numbers"]:
        path = folder / (recipe["name"].format(number, number) + suffix)
        path.write_bytes(whole_picture(suffix, number % 40, kind))
    pictures = sorted(folder.iterdir())
    for place, other, its_kind, damage in recipe["others"]:
        path = pictures[place % len(pictures)]
        content = whole_picture(other, place, its_kind)
        if isinstance(damage, bytes):
            content = damage
        for mishap in damage if isinstance(damage, list) else ():
            content = changed(content, mishap)
        path.write_bytes(content)
    for name in recipe["also"]:
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(b"x")
    return folder


@RUNS
def test_broken_image_folders(run: Run, share: float) -> None:
    endings: Counter[str] = Counter()

    @suite_or_soak(max_examples=round(FOLDERS * share))
    @given(folders, st.booleans())
    def check(recipe: dict[str, Any], decode: bool) -> None:
        with tempfile.TemporaryDirectory(dir=base_folder()) as folder:
            path = write_folder(Path(folder) / "pictures", recipe)
            endings[check_ending(path, Path(folder) / "cache", run, decode)] += 1

    check()
    check_endings(endings)


# --------------------------------------------------------------------------- what is plain Python


sizes_of_files = st.one_of(st.none(), st.integers(0, 2**63))
heads = st.sampled_from(
    [b"", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x00\x00\x00\x08ftyp", b"\x00\x00\x00\x01mdat", b"\x47"]
)


@suite_or_soak(max_examples=200)
@given(heads, st.binary(max_size=600), st.integers(1, 2000))
def test_any_bytes_end_somewhere(head: bytes, rest: bytes, times: int) -> None:
    """Sizes that lead nowhere or back never raise, and never keep it for long."""
    content = head + rest * times
    begin = time.thread_time()
    for end in (ends._riff_end, ends._mp4_end, ends._matroska_end):
        assert end(io.BytesIO(content), len(content)) >= 0
    path = base_folder() / "bytes"
    path.write_bytes(content)
    assert ends.claims_more(path) in (True, False)
    assert time.thread_time() - begin < 5


def boxes(kind: str, bodies: list[bytes]) -> tuple[bytes, Callable[[BinaryIO, int], int]]:
    """Elements of a container one after the other, and what finds their end."""
    if kind == "mp4":
        parts = [(8 + len(body)).to_bytes(4, "big") + b"free" + body for body in bodies]
        return b"".join(parts), ends._mp4_end
    if kind == "avi":
        parts = [b"RIFF" + len(body).to_bytes(4, "little") + body for body in bodies]
        return b"".join(parts), ends._riff_end
    parts = [ends.MATROSKA_SEGMENT + bytes([0x40, len(body)]) + body for body in bodies]
    return b"".join(parts), ends._matroska_end


@given(
    st.sampled_from(["mp4", "avi", "mkv"]),
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5),
)
def test_whole_boxes_end_at_the_end(kind: str, bodies: list[bytes]) -> None:
    """Whatever is in them; cut short, they claim more."""
    content, end = boxes(kind, bodies)
    assert end(io.BytesIO(content), len(content)) == len(content)
    assert end(io.BytesIO(content[:-1]), len(content) - 1) == len(content)


int64 = st.integers(-(2**63), 2**63 - 1)
whole_rows = st.builds(
    ProbeRow,
    path=st.text(),
    content_id=st.text(),
    kind=st.sampled_from(["video", "images", "features"]),
    n_frames=st.integers(0, 2**62),
    decoded=st.booleans(),
    fps=st.floats(allow_nan=False),
    height=st.integers(0, 2**31),
    width=st.integers(0, 2**31),
    rotation=st.sampled_from([0, 90, 180, 270]),
    duration=st.floats(allow_nan=False),
    codec=st.text(),
    container=st.text(),
    damaged=st.integers(0, 2**62),
    flags=st.lists(st.text()).map(tuple),
    key_frames=st.one_of(
        st.none(),
        st.lists(st.tuples(int64, int64, int64), max_size=5).map(
            lambda rows: KeyFrames(*np.array(rows, np.int64).reshape(-1, 3).T)
        ),
    ),
)


@given(whole_rows)
def test_rows_come_back_from_json(row: ProbeRow) -> None:
    again = ProbeRow.from_json(json.loads(json.dumps(row.to_json())))
    assert again.to_json() == row.to_json()
    assert replace(again, key_frames=None) == replace(row, key_frames=None)


names = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), max_size=20),
        st.text("019aB_.-²٣", max_size=60),
        st.binary(max_size=20).map(lambda name: os.fsdecode(name.translate(None, b"/\x00"))),
    ),
    min_size=1,
    max_size=12,
    unique=True,
)


@suite_or_soak(max_examples=100)
@given(names, st.sampled_from([".png", ".JPG", ".TiF", ".txt"]))
def test_any_names_have_one_natural_order(names: list[str], suffix: str) -> None:
    with tempfile.TemporaryDirectory(dir=base_folder()) as given_folder:
        folder = Path(given_folder)
        for name in names:
            (folder / f"{name}{suffix}").write_bytes(b"x")
        seen = {
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES
        }
        if not seen:
            with pytest.raises(NoFrames):
                list_images(folder)
            return
        images = list_images(folder)
        assert set(images) == seen and len(images) == len(seen)
        plain = [int(path.stem) for path in images if re.fullmatch("[0-9]+", path.stem)]
        assert plain == sorted(plain)
        assert list_images(folder) == images
