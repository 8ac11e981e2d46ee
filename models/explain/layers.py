"""
Looking into a network while it runs: what one layer gave, and how a score depends on that.

A network made of modules is looked into by a hook, one of torch.export by stepping through its graph. Either
way the layer's output is cut off from what was before it, so that only what comes after is kept for
gradients, and the network goes on with a copy: activations that work in place cannot spoil what was seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from models.contract import BrokenModel

Look = Callable[[Tensor], tuple[Tensor, Tensor]]  #: input → (output, what the layer gave)

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLUTION_WORDS = ("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution")


def look_into(module: nn.Module, layer: str, through: Callable[[Tensor], Tensor]) -> Look:
    """A way to run `module` that also gives what `layer` gave, ready for `torch.autograd.grad`.

    `through` runs the network, of which `module` is a part or all. Raises `BrokenModel` where
    there is no such layer, or it gives no tensor.
    """
    if isinstance(module, fx.GraphModule):
        if layer not in {node.name for node in module.graph.nodes}:
            raise BrokenModel(f"the network has no step {layer!r} whose output could be explained")
        return _by_graph(module, layer, through)
    try:
        found = module.get_submodule(layer)
    except AttributeError:
        raise BrokenModel(f"the network has no layer {layer!r} that could be explained") from None
    return _by_hook(found, layer, through)


def fitting_layer(
    module: nn.Module, through: Callable[[Tensor], Tensor], sample: Tensor, *, dense: bool
) -> str:
    """The layer that explains most: the last convolution that still knows places, for a dense network the
    last one on its coarsest grid. Raises `BrokenModel`.
    """
    seen: list[tuple[str, int]] = []  # name, number of places
    with torch.no_grad():
        if isinstance(module, fx.GraphModule):
            watched = _Watched(module, lambda name, given: seen.append((name, prod(given.shape[2:]))))
            with _run_by(watched, module):
                through(sample)
        else:
            with _watching(module, seen):
                through(sample)
    places = [(name, count) for name, count in seen if count > 1]
    if not places:
        raise BrokenModel(
            "the network has no convolution that could be explained: name a layer, or use occlusion"
        )
    if dense:
        coarsest = min(count for _, count in places)
        places = [(name, count) for name, count in places if count == coarsest]
    return places[-1][0]


def _by_hook(found: nn.Module, name: str, through: Callable[[Tensor], Tensor]) -> Look:
    def look(windows: Tensor) -> tuple[Tensor, Tensor]:
        given: list[Tensor] = []

        def hook(_module: nn.Module, _args: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise BrokenModel(f"layer {name!r} gives no single tensor that could be explained")
            given.append(output.detach().requires_grad_())
            return given[-1].clone()

        handle = found.register_forward_hook(hook)
        try:
            output = through(windows)
        finally:
            handle.remove()
        if not given:
            raise BrokenModel(f"layer {name!r} was not used for this input")
        return output, given[-1]

    return look


def _by_graph(module: fx.GraphModule, name: str, through: Callable[[Tensor], Tensor]) -> Look:
    def look(windows: Tensor) -> tuple[Tensor, Tensor]:
        stepper = _Stepper(module, name)
        with _run_by(stepper, module):
            output = through(windows)
        if stepper.given is None:
            raise BrokenModel(f"step {name!r} gives no tensor that could be explained")
        return output, stepper.given

    return look


@contextmanager
def _run_by(interpreter: fx.Interpreter, module: fx.GraphModule) -> Iterator[None]:
    """Whoever calls `module` meanwhile calls `interpreter`."""
    vars(module)["forward"] = interpreter.run
    try:
        yield
    finally:
        del vars(module)["forward"]


class _Stepper(fx.Interpreter):
    """Runs a graph step by step and cuts it at one of them."""

    def __init__(self, module: fx.GraphModule, name: str) -> None:
        super().__init__(module)
        self._name = name
        self.given: Tensor | None = None

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if n.name == self._name and isinstance(output, Tensor):
            self.given = output.detach().requires_grad_()
            return self.given.clone()
        return output


class _Watched(fx.Interpreter):
    """Runs a graph and tells of its convolutions."""

    def __init__(self, module: fx.GraphModule, tell: Callable[[str, Tensor], None]) -> None:
        super().__init__(module)
        self._tell = tell

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if n.op == "call_function" and str(n.target).startswith(_CONVOLUTION_WORDS):
            self._tell(n.name, output)
        return output


@contextmanager
def _watching(module: nn.Module, seen: list[tuple[str, int]]) -> Iterator[None]:
    def watcher(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _args, output: seen.append((name, prod(output.shape[2:])))

    handles = [
        part.register_forward_hook(watcher(name))
        for name, part in module.named_modules()
        if isinstance(part, _CONVOLUTIONS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
