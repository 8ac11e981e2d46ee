"""
What an ONNX file asks for, read from its bytes before ONNX Runtime sees it.

Weights can lie outside an ONNX file, by a path that the file names: any file that the worker can read would
do. Operators can come from libraries, or carry programs for other engines. So the whole file is walked here,
field by field (https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):
nothing is unpacked and nothing copied, whatever the file says of its sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAST_FIELD = (1 << 29) - 1
_DEEPEST = 32  # Loops within branches within loops: real networks have two or three.
_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc"})
#: Operators of ONNX Runtime that carry or fetch programs instead of computing.
_PROGRAMS = frozenset(
    {"EPContext", "PyOp", "PythonOp", "PythonOpGrad", "ATen", "ATenGrad", "YieldOp", "ExternalGradient"}
)

# ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, SparseTensorProto, FunctionProto
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25


class Unsafe(ValueError):
    """The file asks for what it may not have, or is no ONNX file; the message ends a sentence that begins
    with its name.
    """


@dataclass(slots=True)
class Facts:
    """What was seen on the way."""

    opsets: dict[str, int] = field(default_factory=dict)  #: domain → version
    operators: set[tuple[str, str]] = field(default_factory=set)  #: (domain, operator)
    functions: set[str] = field(default_factory=set)  #: domains of functions that the file itself defines


def scan(content: bytes) -> Facts:
    """Raise `Unsafe` unless the file is whole in itself and has only operators that compute."""
    facts = Facts()
    view = memoryview(content)
    graphs = 0
    for number, value in _parts(view):
        if number == _MODEL_GRAPH:
            graphs += 1
            _graph(value, facts, 0)
        elif number == _MODEL_OPSET:
            domain, version = _opset(value)
            facts.opsets[domain] = version
        elif number == _MODEL_TRAINING:
            raise Unsafe("holds a training session: export the network for inference")
        elif number == _MODEL_FUNCTIONS:
            _function(value, facts)
    if graphs != 1 or not facts.opsets:
        raise Unsafe("is no ONNX file")
    for domain, operator in sorted(facts.operators):
        if operator in _PROGRAMS and domain not in facts.functions:
            raise Unsafe(f"has the operator {operator}, which runs a program from outside ONNX Runtime")
        if domain not in _STANDARD and domain not in facts.functions:
            raise Unsafe(
                f"needs the operator {domain}.{operator}, which is no part of ONNX Runtime: "
                "libraries of operators "
                f"are not loaded"
            )
    return facts


def _graph(view: memoryview, facts: Facts, depth: int) -> None:
    if depth > _DEEPEST:
        raise Unsafe("holds graphs within graphs beyond any sense")
    for number, value in _parts(view):
        if number == 1:
            _node(value, facts, depth)
        elif number == 5:
            _tensor(value)
        elif number == 15:
            _sparse(value)


def _node(view: memoryview, facts: Facts, depth: int) -> None:
    operator = domain = ""
    for number, value in _parts(view):
        if number == 4:
            operator = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            _attribute(value, facts, depth)
    facts.operators.add((domain, operator))


def _attribute(view: memoryview, facts: Facts, depth: int) -> None:
    for number, value in _parts(view):
        if number in (5, 10):
            _tensor(value)
        elif number in (6, 11):
            _graph(value, facts, depth + 1)
        elif number in (22, 23):
            _sparse(value)


def _function(view: memoryview, facts: Facts) -> None:
    for number, value in _parts(view):
        if number == 7:
            _node(value, facts, 0)
        elif number == 10:
            facts.functions.add(_text(value))
        elif number == 11:
            _attribute(value, facts, 0)


def _tensor(view: memoryview) -> None:
    for number, value in _fields(view):
        # Any location: ONNX Runtime takes one of "*/_ORT_MEM_ADDR_/*" for an address in memory.
        if (number == 14 and value) or number == 13:
            raise Unsafe(
                "keeps weights in another file, and such files are not read: put them into the model with "
                "onnx.save(onnx.load(path), path, save_as_external_data=False)"
            )


def _sparse(view: memoryview) -> None:
    for number, value in _parts(view):
        if number in (1, 2):
            _tensor(value)


def _opset(view: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in _fields(view):
        if isinstance(value, int):
            version = value if number == 2 else version
        elif number == 1:
            domain = _text(value)
    return domain, version


def _text(view: memoryview) -> str:
    if len(view) > 1024:
        raise Unsafe("has a name of more than 1024 bytes")
    return bytes(view).decode("utf-8", "replace")


def _parts(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Those of the fields that are bytes: names and messages within."""
    for number, value in _fields(view):
        if not isinstance(value, int):
            yield number, value


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(number, value) of each field of a message: a number, or the bytes. Raises `Unsafe` where it is
    none.
    """
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        # Readers of protobuf drop what a key has beyond 32 bits: to them it would be another field than here.
        if not 0 < number <= _LAST_FIELD:
            raise Unsafe("is no ONNX file, or is damaged")
        if kind == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Unsafe("is no ONNX file, or is damaged")
        if at + size > end:
            raise Unsafe("is no ONNX file, or is cut off")
        yield number, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise Unsafe("is no ONNX file, or is cut off")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64 or (shift and not byte):  # Nobody writes more bytes than a number needs.
                raise Unsafe("is no ONNX file, or is damaged")
            return value, at
        shift += 7
