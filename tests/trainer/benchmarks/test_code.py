"""Claims about programs that a model writes: how they are put together, executed and limited."""

import time
from pathlib import Path

import pytest

from tests.trainer.benchmarks.fixtures import read, write_rows
from trainer.benchmarks import code
from trainer.benchmarks.sandbox import run_program

HEAD = 'from typing import List\n\n\ndef double(x: int) -> int:\n    """Return twice x."""\n'
ROW = {
    "task_id": "HumanEval/0",
    "prompt": HEAD,
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
}


@pytest.mark.parametrize(
    ("generation", "is_right", "is_valid"),
    [
        ("    return 2 * x", True, True),
        ("return 2 * x", True, True),
        ("    y = x\n    return y + x\n", True, True),
        ("  y = x\n  return y + x\n", True, True),
        ("y = x\n    return y + x\n", True, True),
        ("    return x + x\n\nprint(double(1))", True, True),
        ("```python\ndef double(x):\n    return x + x\n```\nThis doubles.", True, True),
        ("def double(x):\n    return x * x", False, True),
        ("    return 3 * x", False, True),
        ("    return (", False, False),
        ("    import os; os._exit(0)", False, True),  # leaves with code 0 before its tests
        ("", False, True),
    ],
)
def test_a_program_is_right_if_it_passes_its_tests_to_the_end(
    tmp_path: Path, generation: str, is_right: bool, is_valid: bool
) -> None:
    write_rows(tmp_path / "humaneval/test.jsonl", [ROW])
    (question,) = read("humaneval", tmp_path)
    assert question.prompt.startswith("Complete this Python function:\n\nfrom typing")
    verdict = code.score(question, generation)
    assert (verdict.scores["pass_at_1"], verdict.is_valid) == (float(is_right), is_valid)


def test_descriptions_with_assertions_are_shown_them(tmp_path: Path) -> None:
    row = {"task_id": 7, "text": "Write double.", "test_list": ["assert double(2) == 4"], "test_setup_code": ""}
    write_rows(tmp_path / "mbpp/test.jsonl", [row])
    (question,) = read("mbpp", tmp_path)
    assert question.prompt == "Write double.\nThe code must pass these tests:\n\nassert double(2) == 4"
    assert code.score(question, "```\ndef double(x):\n    return 2 * x\n```").scores["pass_at_1"] == 1
    assert code.score(question, "def double(x):\n    return x").scores["pass_at_1"] == 0


def test_endless_and_greedy_programs_are_stopped(tmp_path: Path) -> None:
    assert run_program("while True: pass", seconds=0.5) == "no result after 0.5 s"
    assert "MemoryError" in (run_program("x = bytearray(2**33)") or "")
    kept = tmp_path / "kept"
    assert run_program(f"open({str(kept)!r}, 'wb').write(b'x' * 2**24)") is not None
    assert kept.stat().st_size <= 2**20


def test_a_program_sees_no_environment_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    program = "import os; assert 'SECRET_TOKEN' not in os.environ and os.listdir() == ['program.py']"
    assert run_program(program) is None
    marker = tmp_path / "marker"
    program = f"""
import os, time
if os.fork() == 0:
    time.sleep(1)
    open({str(marker)!r}, "w").close()
"""
    assert run_program(program, seconds=5) is None
    time.sleep(1.2)
    assert not marker.exists()
