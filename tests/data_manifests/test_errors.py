"""Errors come back from worker processes as they are."""

from __future__ import annotations

import pickle

import pytest
from distributed.core import error_message

from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.extractors.footage.errors import OverLimit
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.pipeline.registry import cards_in_use
from vadpipe.pipeline.store.errors import StoreError


def every_kind(base: type[VadpipeError]) -> list[type[VadpipeError]]:
    return [base, *(each for kind in base.__subclasses__() for each in every_kind(kind))]


def test_every_error_can_be_sent_between_processes() -> None:
    cards_in_use()  # imports every extractor and detector
    kinds = {k for k in every_kind(VadpipeError) if k.__module__.startswith("vadpipe.")}
    assert {OutOfMemory, OverLimit, WeightsError, StoreError} <= kinds
    for kind in kinds:
        if kind.__init__ is not VadpipeError.__init__:
            continue  # made of more than a message, for its own command
        with pytest.raises(VadpipeError) as raised:
            raise kind("a message")
        sent = error_message(raised.value)["exception"].data
        found = pickle.loads(sent)
        assert type(found) is kind and str(found) == "a message"
