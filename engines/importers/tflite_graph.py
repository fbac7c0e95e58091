"""A graph in the making: nodes, constants, and which tensor of a TFLite file is called what, and how large it is.

Feature maps are N x channels x height x width throughout, so that no node but the file's own is there: it is the file's
pictures and answers that have another layout. Each shape is worked out here and compared with the declared one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.importers.tflite_file import LARGEST_SIDE, MOST_NUMBERS, NONE, TO_ONNX
from engines.importers.tflite_layout import Maps, maps_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.importers.tflite_file import Network, Operator, Tensor

OPSET, IR_VERSION = 17, 8
PICTURES = 1
"""At once, as in the file."""
MOST_GROWN = 4
"""How many times the file's bytes all weights may have: float32 made of float16 has twice; again, if two share one."""
SMALL_FILE = 1 << 16


class GraphInMaking:
    """Takes nodes as they come; every refusal names the file and the operator."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[object, onnx.TensorProto] = {}
        self._bytes_left = MOST_GROWN * network.bytes + SMALL_FILE
        self._computed: dict[int, tuple[str, Maps]] = {}
        self._halves: dict[int, int] = {}
        self._names: set[str] = set()
        self._inputs = [self._declare(number, self._input_maps(number)) for number in network.inputs]

    # ---- what an operator reads

    def maps(self, operator: Operator, place: int) -> tuple[str, Maps]:
        """Return the name and size of feature maps that an operator reads."""
        number = self._given(operator, place)
        if number not in self._computed:
            what = "a constant" if self._is_constant(number) else "nothing that was computed before"
            self.refuse(operator, f"should read feature maps as input {place}, which is {what}")
        return self._computed[number]

    def is_computed(self, operator: Operator, place: int) -> bool:
        """Whether an input is feature maps, and no constant."""
        return self._given(operator, place) in self._computed

    def values(self, operator: Operator, place: int) -> npt.NDArray[Any]:
        """Return a constant that an operator reads, floats in whichever precision the file has them."""
        number = self._given(operator, place)
        tensor = self.network.tensors[self._halves.get(number, number)]
        if tensor.values is None:
            self.refuse(operator, f"should read a constant as input {place}")
        return tensor.values

    def has(self, operator: Operator, place: int) -> bool:
        """Whether an operator is given an input, which may be left out."""
        return place < len(operator.inputs) and operator.inputs[place] != NONE

    def holds_halves(self, operator: Operator) -> None:
        """Let an operator's output be what its input holds in float16."""
        number = self._given(operator, 0)
        tensor = self.network.tensors[number]
        if tensor.kind != "FLOAT16" or tensor.values is None:
            self.refuse(operator, f"is only read for weights in float16, not for {tensor.kind.lower()}")
        self._halves[self._output(operator)] = number

    def _given(self, operator: Operator, place: int) -> int:
        if not self.has(operator, place):
            self.refuse(operator, f"should have an input {place}")
        return operator.inputs[place]

    def _is_constant(self, number: int) -> bool:
        return self.network.tensors[self._halves.get(number, number)].values is not None

    # ---- what becomes of it

    def constant(self, values: npt.NDArray[Any], key: object) -> str:
        """Return the name of a constant; `key` says where it is from, so that what is read twice is there once."""
        if key not in self._constants:
            kept = np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" else values.dtype)
            self._bytes_left -= kept.nbytes
            if self._bytes_left < 0:
                raise ModelError(f"{self.network.file} says the same weights over and over again: {TO_ONNX}")
            self._constants[key] = numpy_helper.from_array(kept, self._unused(f"constant{len(self._constants)}"))
        return self._constants[key].name

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node, and return what its output is called."""
        name = self._unused(f"{kind.lower()}{len(self._nodes)}")
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def computed(self, operator: Operator, name: str, maps: Maps) -> None:
        """Say what an operator's output is called, and how large it is.

        Raises:
            ModelError: the file declares it otherwise, or has it already.
        """
        number = self._output(operator)
        tensor = self.network.tensors[number]
        if number in self._computed or self._is_constant(number):
            self.refuse(operator, "makes a tensor that is there already")
        if maps_of(tensor.shape) != maps or tensor.kind != "FLOAT32":
            declared = f"{tensor.kind.lower()} {list(tensor.shape)}"
            made = [PICTURES, maps.height, maps.width, maps.channels]
            self.refuse(operator, f"makes float32 {made}, and the file declares {declared}")
        if min(maps) < 1 or max(maps) > LARGEST_SIDE or math.prod(maps) > MOST_NUMBERS:
            self.refuse(operator, f"makes feature maps of {maps.channels} x {maps.height} x {maps.width}")
        self._computed[number] = name, maps

    def _output(self, operator: Operator) -> int:
        if len(operator.outputs) != 1:
            self.refuse(operator, f"should have one output, not {len(operator.outputs)}")
        return operator.outputs[0]

    def _input_maps(self, number: int) -> Maps:
        tensor = self.network.tensors[number]
        maps = maps_of(tensor.shape)
        if maps is None or tensor.kind != "FLOAT32" or number in self._computed:
            self._refuse_end("takes", tensor)
        return maps

    def _declare(self, number: int, maps: Maps) -> onnx.ValueInfoProto:
        name = self._unused(self.network.tensors[number].name or "images")
        self._computed[number] = name, maps
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [PICTURES, *maps])

    def _unused(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def model(self) -> onnx.ModelProto:
        """Put the nodes together; outputs are called as in the file."""
        outputs = []
        for number in self.network.outputs:
            tensor = self.network.tensors[number]
            if number not in self._computed:
                self._refuse_end("gives", tensor)
            source, maps = self._computed[number]
            name = self._unused(tensor.name or "output")
            self._nodes.append(helper.make_node("Identity", [source], [name], name=name))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [PICTURES, *maps]))
        if not outputs:
            raise ModelError(f"{self.network.file} is a network without outputs: convert it again")
        weights = list(self._constants.values())
        graph = helper.make_graph(self._nodes, "tflite", self._inputs, outputs, weights)
        return helper.make_model(
            graph,
            producer_name="TensorFlow Lite",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )

    def _refuse_end(self, does: str, tensor: Tensor) -> NoReturn:
        raise ModelError(
            f"{self.network.file} {does} {tensor.name!r}, {tensor.kind.lower()} {list(tensor.shape)}, and only float32 "
            f"of one picture with height, width and channels is read from TFLite files here: {TO_ONNX}"
        )

    def refuse(self, operator: Operator, why: str) -> NoReturn:
        """Raise ModelError for an operator that cannot be what it says."""
        raise ModelError(
            f"{self.network.file}: operator {operator.number} ({operator.kind}) {why}: {TO_ONNX}, if it is not damaged"
        )
