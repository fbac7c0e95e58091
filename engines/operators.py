"""Which operators of a model are not ONNX's own: those need a runtime, or a plugin, that has them."""

from __future__ import annotations

import onnx

OWN_DOMAINS = ("", "ai.onnx")
MOST_NAMES = 5


def is_own(node: onnx.NodeProto) -> bool:
    """Whether a node is an operator of ONNX that is known here."""
    return node.domain in OWN_DOMAINS and onnx.defs.has(node.op_type)


def foreign(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that are neither ONNX's own operators nor functions that the file itself defines."""
    defined = {function.domain for function in model.functions}
    return [node for node in model.graph.node if node.domain not in defined and not is_own(node)]


def named(nodes: list[onnx.NodeProto]) -> str:
    """Name nodes in words: kind and name, and of many how many more there are."""
    names = [f"{node.op_type} {node.name!r}" for node in nodes[:MOST_NAMES]]
    return ", ".join(names) + (f" and {len(nodes) - MOST_NAMES} more" if len(nodes) > MOST_NAMES else "")


def opset_of(model: onnx.ModelProto) -> int | None:
    """Return the version of ONNX's operators that a model is written in; None: it does not say."""
    return next((each.version for each in model.opset_import if each.domain in OWN_DOMAINS), None)
