"""What may stand for unseen videos: copies, shared frames, cameras, and the draw."""

from __future__ import annotations

import numpy as np
import pytest

from vadpipe.data_manifests.record import VideoRecord
from vadpipe.detectors.base import DetectorError
from vadpipe.pipeline.scores.unseen import Unseen, copies_in


def record(
    name: str,
    scene: str | None = None,
    label: int | None = 0,
    part: tuple[float, float] = (0.0, 1.0),
) -> VideoRecord:
    return VideoRecord.model_validate(
        {"video_id": name, "path": name, "split": "train"}
        | {"scene": scene, "label": label, "part": part}
    )


def look(*records: VideoRecord, same: str = "", share: float = 0.2, seed: int = 0) -> Unseen:
    """Videos whose ids are letters; those in `same` have one content."""
    contents = {r.video_id: "same" if r.video_id in same else r.video_id for r in records}
    return Unseen.of(records, contents, share, seed)


def plain_draw(n: int, share: float, seed: int) -> tuple[int, ...]:
    """As version 0.1 has drawn."""
    count = int(np.ceil(share * n))
    return tuple(sorted(np.random.default_rng(seed).permutation(range(n))[:count].tolist()))


@pytest.mark.parametrize("seed", range(4))
def test_without_copies_and_scenes_chance_alone_decides(seed: int) -> None:
    for scene in (None, "street"):
        unseen = look(*(record(name, scene) for name in "abcdefgh"), share=0.4, seed=seed)
        assert unseen.drawn == plain_draw(8, 0.4, seed) and unseen.as_ever
        assert unseen.apart == tuple(range(8))
        assert not (unseen.copies or unseen.lone or unseen.warnings)
        assert not (unseen.special(True) or unseen.special(False))
        assert unseen.held_back()[1] == [] == unseen.left_out([])[1]


def test_a_copy_counts_once_and_is_named() -> None:
    unseen = look(*map(record, "abcd"), same="bd")
    assert [r.video_id for r in unseen.records] == ["a", "b", "c"]
    assert dict(unseen.copies) == {"d": "b"} and unseen.apart == (0, 1, 2)
    assert unseen.warnings == (
        "1 of 4 training videos are copies of others, and count once with them: d = b",
    )


def test_the_longest_part_stays_and_parts_that_share_no_frame_are_no_copies() -> None:
    halves = [record("a", part=(0.0, 0.5)), record("b", part=(0.5, 1.0))]
    assert copies_in(halves, {"a": "x", "b": "x"}) == {}
    whole = [*halves, record("c")]
    assert copies_in(whole, dict.fromkeys("abc", "x")) == {"a": "c", "b": "c"}


def test_of_records_that_share_frames_one_is_left_out_and_none_is_held_back() -> None:
    records = [record("a", part=(0.0, 0.6)), record("b", part=(0.4, 1.0)), record("c")]
    unseen = look(*records, record("d"), same="ab", share=0.9)
    assert len(unseen.records) == 4 and unseen.apart == (0, 2, 3) and unseen.special(True)
    assert unseen.drawn == (2, 3)


def test_contradicting_labels_are_named_and_never_held_back() -> None:
    records = [record("a", label=1), record("b"), record("c"), record("d", label=1)]
    for seed in range(5):
        unseen = look(*records, same="ab", share=0.4, seed=seed)
        assert len(unseen.records) == 4 and unseen.drawn == (2,)
        assert unseen.warnings == (
            "a and b show the same frames with different labels: mend the manifest",
        )


def test_no_camera_is_held_back_as_a_whole() -> None:
    records = [record("a", "x"), record("b", "x"), record("c", "y"), record("d", "z")]
    for seed in range(8):
        unseen = look(*records, share=0.6, seed=seed)
        assert unseen.drawn in ((0,), (1,)) and unseen.special(False)
        assert unseen.held_back()[1] == []
    assert dict(unseen.lone) == {"y": "c", "z": "d"}


def test_where_every_camera_has_one_clip_it_is_said() -> None:
    unseen = look(*(record(name, name) for name in "abc"))
    assert len(unseen.drawn) == 1 and unseen.as_ever
    method, (warning,) = unseen.held_back()
    name = method.removeprefix("held back from training: ")
    assert f"(1 scene: {name} ({name}))" in warning and "train on a second video" in warning
    method, (warning, short) = unseen.left_out(["b"])
    assert "one fifth" in method and unseen.special(True)
    assert "3 scenes: a (a), b (b), c (c)" in warning and "second video of each" in warning
    assert short.startswith("b: the only video of its scene and too short")


def test_an_abnormal_video_of_the_same_camera_keeps_it_known() -> None:
    records = [record("a", "x"), record("b", "x", label=1), record("c", "y", label=1)]
    unseen = look(*records, share=0.9)
    assert unseen.drawn == (0,) and unseen.normal == (0,)
    with pytest.raises(DetectorError, match="only 1 normal training video; --holdout 0"):
        unseen.check_held_back()
    nothing = look(*records, share=0.0)
    nothing.check_held_back()
    assert nothing.drawn == () and "too low for new ones" in nothing.held_back()[1][0]


def test_one_video_is_left_out_in_parts_without_a_word() -> None:
    unseen = look(record("a", "x"))
    assert unseen.left_out([]) == ("leave one fifth of the video out", []) and not unseen.lone


def test_shares_and_seeds_out_of_range_are_refused() -> None:
    with pytest.raises(DetectorError, match=r"a share from 0 to 0\.9, not 1\.5"):
        look(record("a"), share=1.5)
    with pytest.raises(DetectorError, match="a seed is 0 or more, not -1"):
        look(record("a"), seed=-1)


def test_what_is_trained_on_only_changes_nothing_else() -> None:
    """Videos that were added because of their scores: the others stand for unseen ones."""
    old = [*(record(name, "street") for name in "abcdefgh"), record("i", "yard")]
    more = [*old, record("x", "street"), record("y", "yard")]
    contents = {r.video_id: r.video_id for r in more}
    for seed in range(4):
        before = Unseen.of(old, contents, 0.4, seed)
        after = Unseen.of(more, contents, 0.4, seed, ["x", "y"])
        assert after.records == tuple(more)
        for name in ("apart", "normal", "drawn", "lone", "warnings"):
            assert getattr(after, name) == getattr(before, name), name
        assert len(Unseen.of(more, contents, 0.4, seed).apart) == 11
