"""
The value of an expression that was found to be plain, computed node by node from the tables of `expressions`.

Python's own evaluation is never asked. What a small text could make large (repeated lists, endless numbers,
formatted texts) is refused on the way.
"""

import ast
import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from models.runtimes.bundles.expressions import (
    AT_MOST,
    BINARY,
    COMPARE,
    DETECTOR_METHODS,
    FUNCTIONS,
    TENSOR_METHODS,
    TORCH_FUNCTIONS,
    UNARY,
    Expression,
    NotPlain,
    dotted,
)
from models.runtimes.bundles.targets import locate

_MODULES = MappingProxyType({"np": "numpy"})


def evaluate(expression: Expression, look_up: Callable[[str], Any]) -> Any:
    """The value, with `look_up` giving that of an id. Raises `NotPlain`."""
    names = {name: look_up(id) for name, id in expression.references.items()}
    try:
        return _value(expression.tree, names)
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, AttributeError) as error:
        raise NotPlain(f"has the expression ${expression.text}, which has no value: {error}") from error


def _import(name: str) -> Any:
    """What `a.b.c` of the tables names. Only called with names that are in them."""
    module, *rest = name.split(".")
    found: Any = importlib.import_module(_MODULES.get(module, module))
    if name.startswith("monai.utils."):
        found, rest = importlib.import_module("monai.utils"), rest[1:]
    for one in rest:
        found = getattr(found, one)
    return found


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:  # noqa: PLR0911, PLR0912  one row for each form
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return names[node.id]
        case ast.Attribute():
            return _import(dotted(node))
        case ast.List():
            return [_value(one, names) for one in node.elts]
        case ast.Tuple():
            return tuple(_value(one, names) for one in node.elts)
        case ast.Set():
            return {_value(one, names) for one in node.elts}
        case ast.Dict():
            return {
                _value(key, names): _value(value, names)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            }
        case ast.ListComp(elt=element, generators=[ast.comprehension(target=ast.Name(id=name)) as loop]):
            many = _value(loop.iter, names)
            if not isinstance(many, list | tuple | range | set) or len(many) > AT_MOST:
                raise NotPlain("counts further than any bundle needs")
            return [_value(element, {**names, name: each}) for each in many]
        case ast.BinOp():
            return _binary(node, _value(node.left, names), _value(node.right, names))
        case ast.UnaryOp():
            return UNARY[type(node.op)](_value(node.operand, names))
        case ast.BoolOp():
            return _either(node, names)
        case ast.Compare():
            left, result = _value(node.left, names), True
            for op, right_node in zip(node.ops, node.comparators, strict=True):
                right = _value(right_node, names)
                result, left = COMPARE[type(op)](left, right), right
                if len(node.ops) > 1 and not result:
                    return False
            return result
        case ast.IfExp():
            return _value(node.body if _value(node.test, names) else node.orelse, names)
        case ast.Slice():
            low, high, step = (
                None if one is None else _value(one, names) for one in (node.lower, node.upper, node.step)
            )
            return slice(low, high, step)
        case ast.Subscript():
            return _item(_value(node.value, names), _value(node.slice, names))
        case ast.Lambda():
            return _function(node, names)
        case ast.Call():
            return _call(node, names)
    raise NotPlain(f"has an expression with a {type(node).__name__}, which is code")


def _binary(node: ast.BinOp, left: Any, right: Any) -> Any:
    """Refuses what a small text could make large: repeated lists, formatted texts, endless numbers."""
    if isinstance(left, str | bytes) and isinstance(node.op, ast.Mod):
        raise NotPlain("formats a text, which is code")
    if isinstance(node.op, ast.Mult):
        for many, times in ((left, right), (right, left)):
            if (
                isinstance(many, str | list | tuple)
                and isinstance(times, int)
                and len(many) * times > AT_MOST
            ):
                raise NotPlain("makes a list longer than any bundle needs")
    result = BINARY[type(node.op)](left, right)
    if (isinstance(result, int) and abs(result) >= 1 << 63) or (
        isinstance(result, str | list | tuple) and len(result) > AT_MOST
    ):
        raise NotPlain("computes something larger than any bundle needs")
    return result


def _either(node: ast.BoolOp, names: Mapping[str, Any]) -> Any:
    wanted = isinstance(node.op, ast.Or)
    result = None
    for one in node.values:
        result = _value(one, names)
        if bool(result) is wanted:
            break
    return result


def _item(of: Any, index: Any) -> Any:
    from torch import Tensor  # noqa: PLC0415  describing a bundle needs no torch

    if not isinstance(of, dict | list | tuple | str | range | Tensor | np.ndarray):
        raise NotPlain(f"takes a part of a {type(of).__name__}, which is code")
    return of[index]


def _function(node: ast.Lambda, names: Mapping[str, Any]) -> Callable[..., Any]:
    parameters = [one.arg for one in node.args.args]

    def function(*values: Any) -> Any:
        return _value(node.body, {**names, **dict(zip(parameters, values, strict=True))})

    return function


def _call(node: ast.Call, names: Mapping[str, Any]) -> Any:
    from torch import Tensor, nn  # noqa: PLC0415  describing a bundle needs no torch

    args = [_value(one, names) for one in node.args]
    keywords = {str(one.arg): _value(one.value, names) for one in node.keywords}
    name = dotted(node.func)
    if name in FUNCTIONS:
        if any(isinstance(one, range) and len(one) > AT_MOST for one in args):
            raise NotPlain("counts further than any bundle needs")
        return FUNCTIONS[name](*args, **keywords)
    if name in TORCH_FUNCTIONS:
        return _import(name)(*args, **keywords)
    if name and (target := locate(name)) is not None:
        return target.build(args, keywords)[0]
    if isinstance(node.func, ast.Attribute):
        of, method = _value(node.func.value, names), node.func.attr
        detector = type(of).__module__ == "monai.apps.detection.networks.retinanet_detector"
        allowed = (
            (isinstance(of, Tensor) and method in TENSOR_METHODS | {"to"})
            or (isinstance(of, nn.Module) and method == "to")
            or (detector and method in DETECTOR_METHODS)
        )
        if allowed:
            return getattr(of, method)(*args, **keywords)
    raise NotPlain(f"calls {name or 'something'}, which is code")
