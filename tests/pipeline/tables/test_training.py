"""The line about a training stays a line."""

from __future__ import annotations

from vadpipe.pipeline.tables.training import MOST, training_line


def test_few_facts_are_all_there_with_numbers_that_can_be_read() -> None:
    facts = {"videos": 12345678, "loss": 0.12345678901234567, "steps": 3.0, "stopped": "early"}
    assert training_line(facts, "knn-1") == (
        "videos 12345678, loss 0.1235, steps 3.0, stopped early"
    )


def test_many_facts_are_counted_and_the_command_that_has_them_is_named() -> None:
    limits = {f"limit of speed, scene {n}": n / 3 for n in range(100)}
    line = training_line({"videos": 4, **limits}, "attribute_density-abc")
    assert line.startswith("videos 4, limit of speed, scene 0 0.0, limit of speed, scene 1 0.3333")
    assert line.endswith(f"and {101 - MOST} more (vadpipe list models attribute_density-abc)")
    assert len(line) < 400
