"""Nodes that whoever runs the machine can observe."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from langgraph.runtime import Runtime

from graphs.workbench import Workbench

Node = TypeVar("Node", bound=Callable[..., Any])


def observed(node: Node) -> Node:
    """The same node, which the workbench is told of while it works."""

    @wraps(node)
    def work(state: object, runtime: Runtime[Workbench]) -> object:
        with runtime.context.observe(node.__name__):
            return node(state, runtime)

    return cast(Node, work)
