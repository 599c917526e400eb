"""Operators that look at one cell."""

from collections.abc import Iterable

from factors.kernels import elementwise
from factors.operators.definition import Kernel, Kind, Operator, Parameter, ParameterKind, X, Y


def rows() -> Iterable[Operator]:
    """The registry's rows."""

    def op(name: str, kernel: Kernel, doc: str, *parameters: Parameter, qlib: str | None = None) -> Operator:
        return Operator(name, Kind.ELEMENTWISE, parameters or (X,), kernel, doc, qlib=qlib)

    yield op("ABS", elementwise.absolute, "absolute value of x", qlib="Abs")
    yield op("SIGN", elementwise.sign, "sign of x: -1, 0 or 1", qlib="Sign")
    yield op("LOG", elementwise.log, "natural logarithm of x; null at x <= 0", qlib="Log")
    yield op("LOG1P", elementwise.log1p, "log(1 + x); null at x <= -1", qlib="Log(1 + x)")
    yield op("SQRT", elementwise.sqrt, "square root of x; null below 0", qlib="Power(x, 0.5)")
    yield op("EXP", elementwise.exp, "e to the power x")
    yield op("INV", elementwise.invert, "1 / x; null at 0", qlib="1 / x")
    yield op("FLOOR", elementwise.floor, "largest integer not above x")
    yield op("NEGATE", elementwise.negate, "-x", qlib="0 - x")
    yield op("NOT", elementwise.logical_not, "1 where x is 0, else 0", qlib="Eq(x, 0)")
    yield op("POW", elementwise.power, "x to the power y", X, Y, qlib="Power")
    yield op("SIGNEDPOWER", elementwise.signed_power, "size of x to the power y, with its sign", X, Y,
             qlib="Sign(x) * Power(Abs(x), y)")  # fmt: skip
    yield op("MAX", elementwise.maximum, "the larger of x and y", X, Y, qlib="Greater")
    yield op("MIN", elementwise.minimum, "the smaller of x and y", X, Y, qlib="Less")
    yield op("ADD", elementwise.add, "x + y", X, Y, qlib="Add")
    yield op("SUBTRACT", elementwise.subtract, "x - y", X, Y, qlib="Sub")
    yield op("MULTIPLY", elementwise.multiply, "x * y", X, Y, qlib="Mul")
    yield op("DIVIDE", elementwise.divide, "x / y; null where y is 0", X, Y, qlib="Div")
    yield op("LT", elementwise.less, "1 where x < y, else 0", X, Y, qlib="Lt")
    yield op("GT", elementwise.greater, "1 where x > y, else 0", X, Y, qlib="Gt")
    yield op("LE", elementwise.less_equal, "1 where x <= y, else 0", X, Y, qlib="Le")
    yield op("GE", elementwise.greater_equal, "1 where x >= y, else 0", X, Y, qlib="Ge")
    yield op("EQ", elementwise.equal, "1 where x = y, else 0", X, Y, qlib="Eq")
    yield op("NE", elementwise.not_equal, "1 where x differs from y, else 0", X, Y, qlib="Ne")
    yield op("AND", elementwise.logical_and, "1 where neither x nor y is 0, else 0", X, Y, qlib="And")
    yield op("OR", elementwise.logical_or, "1 where x or y is not 0, else 0", X, Y, qlib="Or")
    low, high = Parameter("low", ParameterKind.NUMBER), Parameter("high", ParameterKind.NUMBER)
    yield op("CLIP", elementwise.clip, "x held between low and high", X, low, high, qlib="Less(Greater(x, low), high)")
    condition = Parameter("condition")
    yield op("WHERE", elementwise.where, "x where the condition is not 0, else y", condition, X, Y, qlib="If")
