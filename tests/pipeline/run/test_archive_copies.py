"""The same content under several names is looked at once."""

from __future__ import annotations

from tests.pipeline.run.test_archive import listed, row
from vadpipe.data_manifests.record import Manifest
from vadpipe.pipeline.run.archive_again import TrainedPart
from vadpipe.pipeline.run.archive_copies import copies_lines, without_copies


def ids(manifest: Manifest) -> list[str]:
    return [record.video_id for record in manifest.records]


SAME = {name: row(10, "same") for name in ("v10", "v2", "v9")}


def test_the_first_name_in_natural_order_stays() -> None:
    rows = {**SAME, "other": row(10, "x")}
    found, copies = without_copies(
        listed(v10=None, v2=None, v9=None, other=None, broken=None), rows
    )
    assert ids(found) == ["v2", "other", "broken"]
    assert copies == {"v10.mp4": "v2.mp4", "v9.mp4": "v2.mp4"}


def test_a_name_that_is_known_or_trains_goes_before_others() -> None:
    found, copies = without_copies(listed(v10=None, v2=None), SAME, known={"v10.mp4"})
    assert ids(found) == ["v10"] and copies == {"v2.mp4": "v10.mp4"}
    manifest = listed(v10=None, v2=None)
    first = manifest.records[0].model_copy(update={"split": "train", "label": 0})
    manifest = manifest.model_copy(update={"records": (first, *manifest.records[1:])})
    assert ids(without_copies(manifest, SAME)[0]) == ["v10"]


def test_what_has_trained_is_not_scored_under_another_name() -> None:
    part = TrainedPart(path="gone.mp4", content_id="same", part=(0.0, 1.0))
    found, copies = without_copies(listed(v2=None, other=None), SAME, trained=[part])
    assert ids(found) == ["other"] and copies == {"v2.mp4": "gone.mp4"}
    judged = part.model_copy(update={"scored": True})
    assert without_copies(listed(v2=None), SAME, trained=[judged])[1] == {}


def test_parts_of_a_file_and_labelled_videos_are_no_copies() -> None:
    manifest = listed(v2=None, v9=None)
    one, two = manifest.records
    parts = (one, one.model_copy(update={"video_id": "v2b"}))
    whole = manifest.model_copy(update={"records": parts})
    assert without_copies(whole, {**SAME, "v2b": SAME["v2"]}) == (whole, {})
    labelled = (one, two.model_copy(update={"label": 1, "split": "test"}))
    whole = manifest.model_copy(update={"records": labelled})
    assert without_copies(whole, SAME) == (whole, {})


def test_lines_name_what_stays_and_count_the_rest() -> None:
    copies = {"b": "a", "c": "a", "y": "x", "z": "w"}
    assert copies_lines(copies, 2) == [
        "the same content, looked at once as a: b, c",
        "the same content, looked at once as x: y",
        "copies of 1 more content are left out",
    ]
    assert copies_lines({}, 2) == []
