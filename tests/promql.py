"""Which series a PromQL expression reads, and which labels it names of each."""

from dataclasses import dataclass

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)


@dataclass(frozen=True, slots=True)
class Use:
    """A series by name, and the labels that are matched or grouped by."""

    name: str
    labels: frozenset[str]


def uses_of(expression: str) -> list[Use]:
    """Every series of the expression; Grafana's own variables stand for a minute.

    Raises:
        ValueError: It is no PromQL.
    """
    for variable in ("$__rate_interval", "$__range"):
        expression = expression.replace(variable, "1m")
    return _uses(promql_parser.parse(expression), frozenset())


def _uses(node: Expr, grouped: frozenset[str]) -> list[Use]:
    match node:
        case VectorSelector():
            matched = {matcher.name for matcher in node.matchers.matchers}
            return [Use(str(node.name), grouped | matched)]
        case MatrixSelector():
            return _uses(node.vector_selector, grouped)
        case AggregateExpr():
            names = node.modifier.labels if node.modifier is not None else ()
            return _uses(node.expr, grouped | frozenset(names))
        case Call():
            return [use for argument in node.args for use in _uses(argument, grouped)]
        case BinaryExpr():
            return _uses(node.lhs, grouped) + _uses(node.rhs, grouped)
        case ParenExpr() | SubqueryExpr() | UnaryExpr():
            return _uses(node.expr, grouped)
        case _:
            return []
