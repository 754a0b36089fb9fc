"""What a network computes before its first dropout, kept from pass to pass."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["Replay", "drops"]

Forward = Callable[..., object]

_PLAIN = (bool, int, float, str, type(None))
"""What an output may hold beside tensors: what nobody can change afterwards."""


def drops(module: nn.Module) -> bool:
    """Return whether a module is dropout that drops something once it is switched on."""
    return isinstance(module, _DropoutNd) and module.p > 0


class Replay:
    """Passes of one network over the same images, of which only the first computes what comes before dropout.

    In the first pass the calls of all submodules are watched. Those that have finished when dropout begins for the
    first time return the same in every pass, so what they returned is kept: that of the outermost ones only, since what
    they called is not called again. In later passes these modules return what is kept; operations between modules and
    whatever begins later are computed. The logits are those of plain passes, bit for bit. Modules may be called
    several times and have hooks, which run in every pass; what is changed in place is computed again.

    Passes are plain ones where gradients are enabled, where something else than dropout is in training mode, where
    random numbers are drawn before the first dropout, and for networks that were compiled or run in parallel. From
    pass to pass weights and hooks must stay what they are.
    """

    def __init__(self) -> None:
        self._outputs: _Outputs | None = None

    @contextmanager
    def of(self, network: nn.Module, device: torch.device) -> Iterator[None]:
        """Within this context the network may be run once over the images that this object is there for.

        Args:
            network: the network, its dropout switched on, the seed of the pass set.
            device: where it computes.
        """
        if torch.is_grad_enabled() or not _repeatable(network):
            yield
            return
        with torch.inference_mode(False), torch.no_grad():  # inference tensors do not tell whether they were changed
            if self._outputs is None:
                recording = _Recording(network, device)
                with _forward_replaced(network.modules(), recording.watched):
                    yield
                self._outputs = recording.outputs()
            else:
                with _forward_replaced(self._outputs, _Replayed(self._outputs).answered):
                    yield


class _Output:
    """What a module returned: its tensors, and the containers that they were in."""

    def __init__(self, output: object) -> None:
        self._leaves, self._structure = tree_flatten(output)
        self.keepable = all(map(_keepable, self._leaves))
        self._versions = self._present() if self.keepable else ()

    def _present(self) -> tuple[int, ...]:
        return tuple(one._version for one in self._leaves if isinstance(one, Tensor))

    @property
    def intact(self) -> bool:
        """Whether no tensor has been changed in place since."""
        return self._present() == self._versions

    def value(self) -> object:
        """Return it in new containers, as whoever gets a list may change that."""
        return tree_unflatten(self._leaves, self._structure)


_Outputs = Mapping[nn.Module, list[_Output | None]]
"""By module, what its calls returned, in the order in which they began; None for one that has to be made again."""


class _Call:
    """A call of a module, with the calls that it made while these are worth knowing.

    Attributes:
        output: what it returned; None if it has not, or has to be called again.
        awaited: whether a hook waits for it or for a call that it made, so that none of them can be left out.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.calls: list[_Call] = []
        self.output: _Output | None = None
        self.awaited = False

    def finish(self, output: object) -> None:
        below = any(one.awaited for one in self.calls)
        self.awaited = below or bool(self.module._forward_hooks or self.module._forward_pre_hooks)
        returned = _Output(output)
        if returned.keepable and not below:
            self.output, self.calls = returned, []

    def below(self) -> Iterator["_Call"]:
        for call in self.calls:
            yield call
            yield from call.below()


class _Recording:
    """The first pass: a tree of calls, which grows until dropout begins."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._device = device
        self._start = _random_state(device)
        self._running = [_Call(network)]
        self._tree = self._running[0]
        self._ended = self._usable = False

    def watched(self, module: nn.Module, forward: Forward) -> Forward:
        """Return a ``forward`` that does the same under observation."""

        @wraps(forward)
        def call(*args: object, **kwargs: object) -> object:
            if not self._ended and drops(module):
                self._end()
            return forward(*args, **kwargs) if self._ended else self._recorded(module, forward, args, kwargs)

        return call

    def _recorded(
        self, module: nn.Module, forward: Forward, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        call = _Call(module)
        self._running[-1].calls.append(call)
        self._running.append(call)
        try:
            output = forward(*args, **kwargs)
        finally:
            self._running.pop()
        if not self._ended:
            call.finish(output)
        return output

    def _end(self) -> None:
        # Had random numbers been drawn before, a pass that leaves that out would drop something else.
        self._ended = True
        now = _random_state(self._device)
        self._usable = all(torch.equal(*pair) for pair in zip(self._start, now, strict=True))

    def outputs(self) -> _Outputs:
        """Return what may be replayed; nothing if no dropout began, or it was not the first to draw."""
        found: dict[nn.Module, list[_Output | None]] = defaultdict(list)
        for call in self._tree.below() if self._usable else ():
            found[call.module].append(call.output)
        return {module: outputs for module, outputs in found.items() if any(outputs)}


class _Replayed:
    """A later pass."""

    def __init__(self, outputs: _Outputs) -> None:
        self._left = {module: iter(some) for module, some in outputs.items()}
        self._computing = False

    def answered(self, module: nn.Module, forward: Forward) -> Forward:
        """Return a ``forward`` that returns what is kept of a call, and computes where nothing is."""
        left = self._left[module]

        @wraps(forward)
        def call(*args: object, **kwargs: object) -> object:
            kept = None if self._computing else next(left, None)
            if kept is None:
                return forward(*args, **kwargs)
            return kept.value() if kept.intact else self._computed(forward, args, kwargs)

        return call

    def _computed(self, forward: Forward, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        # The calls that are made within are no part of the record, which has this one instead.
        self._computing = True
        try:
            return forward(*args, **kwargs)
        finally:
            self._computing = False


def _keepable(leaf: object) -> bool:
    """Whether a part of an output can be kept, and a change of it noticed."""
    return not leaf.is_inference() if isinstance(leaf, Tensor) else isinstance(leaf, _PLAIN)


def _repeatable(network: nn.Module) -> bool:
    modules = list(network.modules())
    compiled = any(hasattr(one, "_orig_mod") or one._compiled_call_impl is not None for one in modules)
    parallel = any(isinstance(one, nn.DataParallel) for one in modules)
    return not (compiled or parallel or any(one.training and not drops(one) for one in modules))


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


@contextmanager
def _forward_replaced(
    modules: Iterable[nn.Module], replacement: Callable[[nn.Module, Forward], Forward]
) -> Iterator[None]:
    # Parts of a scripted module may have no forward of their own.
    before = {one: one.__dict__.get("forward") for one in modules if hasattr(one, "forward")}
    for one in before:
        one.__dict__["forward"] = replacement(one, one.forward)
    try:
        yield
    finally:
        for one, forward in before.items():
            if forward is None:
                one.__dict__.pop("forward", None)
            else:
                one.__dict__["forward"] = forward
