"""How a model is computed, as far as that changes time and memory and not what is computed.

    HRM, Execution ─ prepare ─▶ the same HRM, set up

Names and values of the weights stay as they are, so a checkpoint does not know how its model was computed.
"""

import importlib.util
from dataclasses import dataclass

from torch import nn

from model.attention import Kernel
from model.blocks import Block, Stack
from model.hrm import HRM


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Choices that `prepare` makes; each can be made alone."""

    attention: Kernel = "dense"
    """Kernel of the training forward and backward pass; see `model.attention`."""
    compile: bool = False
    """torch.compile for each block in training; all blocks of a shape share what is compiled."""
    recompute: bool = False
    """Keep only the inputs of the L stack's blocks, and compute the rest again in the backward pass."""
    float8: bool = False
    """Linear layers of the stacks in float8 (torchao), with scales by tensor; needs a GPU of compute capability 8.9."""


def prepare(model: HRM, execution: Execution) -> None:
    """Set a model up in place, before it is sharded.

    Raises
    ------
    ValueError
        float8 is asked for and torchao is not installed, or the model has no L stack to recompute.
    """
    model.attention = execution.attention
    if execution.float8:
        _use_float8(model)
    if execution.recompute:
        if "L_module" not in model.config.stacks:
            raise ValueError(f"recompute is for the L stack, and {model.config.architecture} has none: turn it off")
        for block in _blocks(model.get_submodule("L_module")):
            block.recompute = True
    if execution.compile:
        for name in model.config.stacks:
            for block in _blocks(model.get_submodule(name)):
                block.compile_training()


def _blocks(stack: nn.Module) -> list[Block]:
    assert isinstance(stack, Stack)
    return [block for block in stack.layers if isinstance(block, Block)]


def _use_float8(model: HRM) -> None:
    if importlib.util.find_spec("torchao") is None:
        raise ValueError("float8 needs torchao, which is not installed: pip install torchao, or turn float8 off")
    from torchao.float8 import convert_to_float8_training

    for name in model.config.stacks:
        convert_to_float8_training(model.get_submodule(name))
