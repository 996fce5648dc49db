"""Execution options of a model: they change its speed and memory, not its results.

    HRM, Execution ─ prepare ─▶ the same HRM, modified in place

Names and values of the weights do not change, so checkpoints are independent of these options.
"""

import importlib.util
from dataclasses import dataclass

from torch import nn

from model.attention import Kernel
from model.blocks import Block, Recompute, Stack
from model.hrm import HRM


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Independent options that `prepare` applies."""

    attention: Kernel = "dense"
    """Attention kernel for training; see `model.attention`."""
    compile: bool = False
    """Apply torch.compile to each block in training; blocks of the same shape share the compiled code."""
    recompute: Recompute = "none"
    """What the backward pass recomputes: nothing; `elementwise` operations of all blocks, whose matrix products and
    attention are kept; or whole `blocks` of the L stack, whose inputs are kept."""
    float8: bool = False
    """Linear layers of the stacks in float8 with scales per tensor (torchao); needs a GPU of compute capability 8.9."""


def prepare(model: HRM, execution: Execution) -> None:
    """Apply execution options to a model in place, before it is sharded.

    Raises
    ------
    ValueError
        torchao is missing for float8, or the model has no L stack to recompute.
    """
    model.attention = execution.attention
    if execution.float8:
        _use_float8(model)
    if execution.recompute == "blocks" and "L_module" not in model.config.stacks:
        raise ValueError(
            f"recompute: blocks is for the L stack, and {model.config.architecture} has none: use elementwise or none"
        )
    for name in ("L_module",) if execution.recompute == "blocks" else model.config.stacks:
        for block in _blocks(model.get_submodule(name)):
            block.recompute = execution.recompute
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
