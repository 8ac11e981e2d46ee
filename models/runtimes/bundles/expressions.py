"""
The expressions of a bundle that are no more than arithmetic: read with our own small interpreter.

A bundle's configuration may hold Python after a `$`. MONAI hands it to `eval`, which makes every bundle a
program. Most of it is harmless, `$@a + @b` or `$torch.device('cpu')`, and that part we can compute without
`eval`: what is not in the tables below is not computed but refused (`NotPlain`), before anything is.
"""

import ast
import operator
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from models.runtimes.bundles.targets import locate

REFERENCE = re.compile(r"@(\w+(?:(?:::|#)\w+)*)")  #: `@a::b`; `#` is the separator of old bundles
AT_MOST = 100_000  # items of a list, characters of a text
_AT_MOST_CHARACTERS = 2_000  # of an expression

_OF_NUMPY = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 pi inf".split()  # noqa: SIM905

#: What a dotted name may stand for: constants, and functions that only compute.
CONSTANTS = frozenset(
    {f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float", "float64", "half", "bool")}
    | {f"torch.{name}" for name in ("uint8", "int8", "int16", "int32", "int64", "int", "long", "short")}
    | {f"{np}.{name}" for np in ("np", "numpy") for name in _OF_NUMPY}
    | {"math.pi", *(f"monai.utils.CommonKeys.{name}" for name in ("IMAGE", "LABEL", "PRED"))}
)
FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {one.__name__: one for one in (int, float, bool, str, len, min, max, abs, round, sum)}
    | {one.__name__: one for one in (range, list, tuple, set, sorted)}
    | {"os.path.join": posixpath.join}
)
TORCH_FUNCTIONS = frozenset(
    {
        f"torch.{name}"
        for name in ("device", "cuda.is_available", "where", "nan_to_num", "cat", "stack", "argmax")
    }
    | {f"torch.{name}" for name in ("softmax", "sigmoid", "from_numpy", "clamp", "any", "all", "sum")}
    | {f"torch.{name}" for name in ("logical_or", "logical_and", "logical_not")}
)
TENSOR_METHODS = frozenset(
    {"float", "long", "int", "bool", "half", "argmax", "softmax", "sigmoid", "squeeze", "unsqueeze", "sum"}
    | {"max", "min", "mean", "any", "all", "clamp", "abs"}
)
DETECTOR_METHODS = frozenset(
    {"set_target_keys", "set_box_selector_parameters", "set_sliding_window_inferer", "set_box_coder_weights"}
)
BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    | {ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod}
    | {ast.BitAnd: operator.and_, ast.BitOr: operator.or_}
)
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = MappingProxyType(
    {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert}
)
COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = MappingProxyType(
    {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le}
    | {ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not}
    | {ast.In: lambda one, many: one in many, ast.NotIn: lambda one, many: one not in many}
)


class NotPlain(Exception):
    """What a configuration asks for is code: it is not computed here. The message ends a sentence."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was found to be plain."""

    text: str
    tree: ast.expr
    references: Mapping[str, str]  #: name in the tree → id in the configuration

    @classmethod
    def parse(cls, text: str) -> "Expression":
        """`text` is what stands after the `$`. Raises `NotPlain`; computes nothing."""
        if len(text) > _AT_MOST_CHARACTERS:
            raise NotPlain("is an expression of more characters than anything plain has")
        references: dict[str, str] = {}

        def name_of(match: re.Match[str]) -> str:
            references[f"reference_{len(references)}_"] = match[1].replace("#", "::")
            return f"reference_{len(references) - 1}_"

        try:
            tree = ast.parse(REFERENCE.sub(name_of, text).strip(), mode="eval").body
            _check(tree, text, frozenset(references))
        except NotPlain:
            raise
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise NotPlain(f"is no plain expression: ${text}") from error
        return cls(text, tree, references)


def _check(node: ast.AST, text: str, known: frozenset[str]) -> None:  # noqa: PLR0912  one row for each form
    """Raise `NotPlain` unless every part of the expression is in the tables of this chapter."""
    match node:
        case ast.Constant(value=value) if isinstance(value, str | int | float | bool | None):
            below: Iterator[ast.AST] = iter(())
        case ast.Name(id=name) if name in known:
            below = iter(())
        case ast.Attribute() if dotted(node) in CONSTANTS:
            below = iter(())
        case ast.Lambda(args=arguments, body=body) if _only_names(arguments):
            _check(body, text, known | {one.arg for one in arguments.args})
            below = iter(())
        case ast.Call(func=func, args=args, keywords=keywords):
            if any(isinstance(one, ast.Starred) for one in args) or any(one.arg is None for one in keywords):
                raise NotPlain(f"has the expression ${text}, which is code")
            if not _is_function(func):
                if not isinstance(func, ast.Attribute) or func.attr not in (
                    TENSOR_METHODS | DETECTOR_METHODS | {"to"}
                ):
                    raise NotPlain(f"has the expression ${text}, which is code")
                _check(func.value, text, known)
            below = iter([*args, *(one.value for one in keywords)])
        case ast.ListComp(elt=element, generators=[ast.comprehension(target=ast.Name(id=each)) as loop]) if (
            not loop.ifs and not loop.is_async
        ):
            _check(loop.iter, text, known)
            _check(element, text, known | {each})
            below = iter(())
        case ast.Dict(keys=keys, values=values) if None not in keys:
            below = iter([one for one in [*keys, *values] if one is not None])
        case ast.BinOp(op=op) if type(op) in BINARY:
            below = iter([node.left, node.right])
        case ast.UnaryOp(op=unary) if type(unary) in UNARY:
            below = iter([node.operand])
        case ast.Compare(ops=ops) if all(type(one) in COMPARE for one in ops):
            below = iter([node.left, *node.comparators])
        case ast.BoolOp(values=values):
            below = iter(values)
        case ast.IfExp() | ast.Subscript() | ast.Slice() | ast.List() | ast.Tuple() | ast.Set():
            below = (one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.expr_context))
        case _:
            raise NotPlain(f"has the expression ${text}, which is code")
    for one in below:
        _check(one, text, known)


def _only_names(arguments: ast.arguments) -> bool:
    more = (arguments.vararg, arguments.kwarg, *arguments.kwonlyargs, *arguments.posonlyargs)
    return not any(more) and not arguments.defaults


def dotted(node: ast.AST) -> str:
    """`a.b.c` as a text; empty where it is anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _is_function(func: ast.expr) -> bool:
    name = dotted(func)
    return name in FUNCTIONS or name in TORCH_FUNCTIONS or ("." in name and locate(name) is not None)
