"""The form of a network's first layer: tried out once on each machine, then remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..networks.folding import Form
from ..networks.fused import FusedConv
from .micro_batch import is_out_of_memory
from .tuning import Tuning, processor

GAIN = 1.05  # another form has to be this much faster than the likely one
ROUNDS = 10  # so that each form has a moment without other work on the machine
LONG_SECONDS = 1.5  # no further round is begun after so long


class FirstLayers:
    """The layers of a network that can take pixels in several forms (`networks/folding.py`).

    Args:
        network:
            As prepared; one whose layers are not fused has none of them.
        tuning:
            Where findings are kept.
    """

    def __init__(self, network: nn.Module, tuning: Tuning) -> None:
        self._tuning = tuning
        self._layers = {
            name: layer
            for name, layer in network.named_modules()
            if isinstance(layer, FusedConv) and len(layer.forms) > 1
        }
        self._likely = self.forms()

    def forms(self) -> dict[str, Form]:
        """The form of each layer now, by its name."""
        return {name: layer.form for name, layer in self._layers.items()}

    def choose(self, what: str, run: Callable[[], object]) -> None:
        """Set the fastest forms for something; they are tried out if they are not known yet.

        Args:
            what:
                Names network, precision and shape.
            run:
                Runs the network on one item.
        """
        if not self._layers:
            return
        keys = {name: f"{processor('cpu')} {what}, form of {name}" for name in self._layers}
        with self._tuning.lock:
            kept = {name: self._tuning.find(key) for name, key in keys.items()}
            known = {n: f for n, f in kept.items() if f in self._layers[n].forms}
            if len(known) < len(kept):
                known, enough = self._try_out(run)
                for name, form in known.items():
                    self._tuning.note(keys[name], form, keep=enough)
        for name, layer in self._layers.items():
            layer.form = known[name]

    def _try_out(self, run: Callable[[], object]) -> tuple[dict[str, Form], bool]:
        """The fastest form of each layer, and whether there was enough memory to try them."""
        found = dict(self._likely)
        for name, layer in self._layers.items():
            layer.form = found[name]
        try:
            for name, call in _calls(self._layers, run).items():
                found[name] = self._fastest(name, call)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return self._likely, False
        return found, True

    def _fastest(self, name: str, call: Callable[[], object]) -> Form:
        layer = self._layers[name]

        def seconds(form: Form) -> float:
            layer.form = form
            begin = time.perf_counter()
            call()
            return time.perf_counter() - begin

        return fastest_form(seconds, layer.forms, self._likely[name])


def _calls(layers: Mapping[str, FusedConv], run: Callable[[], object]) -> dict[str, Any]:
    """Run a network, and keep the first call of each of these layers."""
    calls: dict[str, Any] = {}

    def keep(name: str, layer: FusedConv) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, lambda: layer(*args, **kwargs))

        return hook

    hooks = [
        layer.register_forward_pre_hook(keep(name, layer), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        run()
    finally:
        for each in hooks:
            each.remove()
    return calls


def fastest_form(seconds: Callable[[Form], float], forms: Sequence[Form], likely: Form) -> Form:
    """Try forms in turn, once to warm up and then up to ten times; the best time counts.

    Args:
        seconds:
            That a form takes.
        forms:
            To be tried.
        likely:
            One of them, which stays unless another one is 5 % faster.
    """
    for form in forms:
        seconds(form)
    best = dict.fromkeys(forms, float("inf"))
    spent = 0.0
    for _ in range(ROUNDS):
        for form in forms:
            took = seconds(form)
            spent += took
            best[form] = min(best[form], took)
        if spent >= LONG_SECONDS:
            break
    first = min(forms, key=lambda form: best[form])
    return first if best[first] * GAIN < best[likely] else likely
