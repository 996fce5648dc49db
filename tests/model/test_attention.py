"""Claims about visible keys, attention kernels and rotary embedding."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from model.attention import BlockedMask, Kernel, attend, dense_mask, key_intervals, mask_of
from model.config import config_for
from model.kernels import describe, fastest, measure, unavailable
from model.rope import Rope
from tests.model.packing import Sample, pack, samples
from tests.model.reference import sees

LENGTH = 16


@st.composite
def packings(draw: st.DrawFn) -> list[list[Sample]]:
    """Rows of samples that fit into LENGTH, some of them empty."""
    rows = []
    for row in draw(st.lists(st.lists(samples(), max_size=5), min_size=1, max_size=4)):
        while sum(map(len, row)) > LENGTH:
            row.pop()
        rows.append(row)
    return rows


def visible_keys(rows: list[list[Sample]]) -> Tensor:
    seen = torch.zeros(len(rows), LENGTH, LENGTH, dtype=torch.bool)
    for r, row in enumerate(rows):
        begin = 0
        for sample in row:
            for query in range(len(sample)):
                for key in range(len(sample)):
                    seen[r, begin + query, begin + key] = sees(query, key, sample.prefix)
            begin += len(sample)
    return seen


@given(packings())
def test_positions_see_exactly_the_keys_that_prefix_lm_defines_in_every_packing(rows):
    begin, end = key_intervals(pack(rows, LENGTH).segments, len(rows), LENGTH)
    mask = dense_mask(begin, end, LENGTH, torch.float32)
    seen = visible_keys(rows)
    sees_any = seen.any(-1, keepdim=True)
    assert torch.equal(mask.sees_any[..., 0] == 1, sees_any)
    assert torch.equal(mask.bias[:, 0] == 0, seen | ~sees_any)
    assert torch.equal(mask.bias[:, 0] == float("-inf"), ~seen & sees_any)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(deadline=None, max_examples=20)
@given(rows=packings(), seed=st.integers(0, 1000))
def test_queries_without_keys_give_zero_and_finite_gradients(device, dtype, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, len(rows), LENGTH, 2, 8)
    qkv = torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
    begin, end = key_intervals(pack(rows, LENGTH).segments.to(device), len(rows), LENGTH)
    out = attend(*qkv, dense_mask(begin, end, LENGTH, dtype))
    without_keys = ~visible_keys(rows).any(-1)
    assert (out[without_keys.to(device)] == 0).all()
    assert out.isfinite().all()
    out.float().square().sum().backward()
    assert qkv.grad is not None
    assert qkv.grad.isfinite().all()
    assert (qkv.grad[:, without_keys.to(device)] == 0).all()


def test_attention_equals_a_softmax_over_the_seen_keys(device):
    rows = [[Sample(tuple(range(9)), 4), Sample(tuple(range(5)), 1)], [Sample(tuple(range(LENGTH)), LENGTH)]]
    q, k, v = torch.randn((3, 2, LENGTH, 2, 8), generator=torch.Generator().manual_seed(0)).to(device)
    begin, end = key_intervals(pack(rows, LENGTH).segments.to(device), 2, LENGTH)
    out = attend(q, k, v, dense_mask(begin, end, LENGTH, torch.float32)).cpu()
    scores = torch.einsum("rqhd,rkhd->rhqk", q.double(), k.double()).cpu() / 8**0.5
    weights = scores.masked_fill(~visible_keys(rows)[:, None], float("-inf")).softmax(-1).nan_to_num()
    expected = torch.einsum("rhqk,rkhd->rqhd", weights, v.double().cpu())
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


class TestKernels:
    """Every kernel gives the values and gradients of a float64 softmax over the visible keys."""

    ROWS, LENGTH = 3, 300

    @staticmethod
    @st.composite
    def layouts(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
        """Prefix and response length of the samples of each row."""
        rows = []
        for _ in range(TestKernels.ROWS):
            left, row = draw(st.integers(0, TestKernels.LENGTH)), []
            while left > 0 and len(row) < 12:
                prefix = draw(st.one_of(st.just(1), st.integers(1, left)))
                response = draw(st.one_of(st.just(0), st.just(left - prefix), st.integers(0, left - prefix)))
                row.append((prefix, response))
                left -= prefix + response
            rows.append(row)
        return rows

    @staticmethod
    def seen(rows: list[list[tuple[int, int]]]) -> tuple[Tensor, Tensor]:
        """Segments, and a bool [R, T, T] of the keys that each query sees by definition."""
        segments, seen = [], torch.zeros(len(rows), TestKernels.LENGTH, TestKernels.LENGTH, dtype=torch.bool)
        for r, row in enumerate(rows):
            begin = 0
            for prefix, response in row:
                total = prefix + response
                query, key = torch.arange(total)[:, None], torch.arange(total)
                inside = slice(begin, begin + total)
                seen[r, inside, inside] = torch.where(query < prefix, key < prefix, key <= query)
                segments.append((r, begin, prefix, total))
                begin += total
        return torch.tensor(segments, dtype=torch.int32).reshape(-1, 4), seen

    @staticmethod
    def expected(qkv: Tensor, seen: Tensor) -> Tensor:
        q, k, v = qkv.double()
        scores = torch.einsum("rqhd,rkhd->rhqk", q, k) / qkv.shape[-1] ** 0.5
        weights = scores.masked_fill(~seen[:, None], -1e300).softmax(-1) * seen.any(-1)[:, None, :, None]
        return torch.einsum("rhqk,rkhd->rqhd", weights, v)

    def check(self, rows: list[list[tuple[int, int]]], kernel: Kernel, device: str, *, backward: bool) -> None:
        dtype = torch.float32 if kernel == "dense" or device == "cpu" else torch.bfloat16
        tolerance = 2e-5 if dtype == torch.float32 else 2e-2
        segments, seen = self.seen(rows)
        shape = (3, self.ROWS, self.LENGTH, 2, 16)
        generator = torch.Generator().manual_seed(len(segments))
        qkv = torch.randn(shape, generator=generator).to(dtype)
        upstream = torch.randn(shape[1:], generator=generator).to(dtype)
        there = qkv.to(device).clone().requires_grad_(backward)
        mask = mask_of(segments.to(device), rows=self.ROWS, length=self.LENGTH, dtype=dtype, kernel=kernel)
        out = attend(*there.unbind(0), mask)
        exact = qkv.detach().double().clone().requires_grad_()
        expected = self.expected(exact, seen)
        torch.testing.assert_close(out.detach().double().cpu(), expected.detach(), atol=tolerance, rtol=tolerance)
        assert (out.detach().cpu()[~seen.any(-1)] == 0).all()
        if backward:
            out.backward(upstream.to(device))
            expected.backward(upstream.double())
            assert there.grad is not None
            assert exact.grad is not None
            error = (there.grad.double().cpu() - exact.grad).norm()
            assert error <= tolerance * exact.grad.norm()

    SPECIAL = (
        [[(300, 0)], [(1, 299)], [(150, 150)]],  # a single sample fills each row
        [[(7, 0), (1, 0), (20, 0)], [(1, 5), (1, 0), (1, 200)], []],  # empty responses, one-token prefixes, padding
        [[], [], []],
        [[(128, 0), (128, 44)], [(100, 28), (28, 100), (1, 43)], [(127, 2), (127, 44)]],  # at the borders of blocks
    )

    @pytest.mark.slow
    @settings(deadline=None, max_examples=200)
    @given(rows=layouts())
    @example(SPECIAL[0])
    @example(SPECIAL[1])
    @example(SPECIAL[2])
    @example(SPECIAL[3])
    def test_the_dense_kernel_equals_float64(self, device, rows):
        self.check(rows, "dense", device, backward=True)

    @pytest.mark.parametrize("kernel", ["flex", "flex64"])
    @settings(deadline=None, max_examples=25)
    @given(rows=layouts())
    @example(SPECIAL[0])
    @example(SPECIAL[1])
    @example(SPECIAL[3])
    def test_blocked_masks_equal_float64_forward_and_backward_in_plain_operations(self, kernel, rows):
        """FlexAttention outside of torch.compile, which torch refuses to differentiate on a CPU because it is slow."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *tensors: None)
            patch.setattr("model.attention._compiled_flex", lambda: flex_attention)
            self.check(rows, kernel, "cpu", backward=True)

    @pytest.mark.slow  # compiles a C++ kernel
    @settings(deadline=None, max_examples=200)
    @given(rows=layouts())
    @example(SPECIAL[0])
    @example(SPECIAL[1])
    @example(SPECIAL[2])
    @example(SPECIAL[3])
    def test_flex_attention_compiled_for_a_cpu_equals_float64_in_the_forward_pass(self, rows):
        self.check(rows, "flex", "cpu", backward=False)

    @pytest.mark.gpu
    @pytest.mark.parametrize("kernel", ["flex", "flex64", "flash", "varlen"])
    @settings(deadline=None, max_examples=20)  # GPUs are lent by the minute
    @given(rows=layouts())
    @example(SPECIAL[0])
    @example(SPECIAL[1])
    @example(SPECIAL[2])
    @example(SPECIAL[3])
    def test_gpu_kernels_equal_float64(self, cuda, kernel, rows):
        if refused := unavailable(kernel, device=torch.device(cuda), dtype=torch.bfloat16):
            pytest.skip(f"{kernel} {refused}")
        self.check(rows, kernel, cuda, backward=True)

    @pytest.mark.slow  # 200 packings, a sequence at a time
    @settings(deadline=None, max_examples=200)
    @given(rows=layouts())
    @example(SPECIAL[0])
    @example(SPECIAL[1])
    @example(SPECIAL[2])
    @example(SPECIAL[3])
    def test_the_two_calls_of_variable_length_attention_equal_float64_if_the_kernel_is_as_documented(self, rows):
        """torch has this kernel for CUDA only, so a loop over the sequences replaces it here."""

        def as_documented(q: Tensor, k: Tensor, v: Tensor, *bounds: Any, window_size: tuple[int, int]) -> Tensor:
            queries, keys, max_length, _ = bounds
            assert queries is keys
            assert int(queries[0]) == 0
            assert int(queries[-1]) == len(q)
            outputs = []
            for begin, end in itertools.pairwise(queries.tolist()):
                assert 0 <= end - begin <= max_length
                one = (tensor[begin:end].transpose(0, 1) for tensor in (q, k, v))
                outputs.append(F.scaled_dot_product_attention(*one, is_causal=window_size == (-1, 0)).transpose(0, 1))
            return torch.cat(outputs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("model.attention.varlen_attn", as_documented)
            self.check(rows, "varlen", "cpu", backward=True)

    @pytest.mark.parametrize(("kernel", "block"), [("flex", 128), ("flex64", 64)])
    @settings(deadline=None, max_examples=100)
    @given(rows=layouts())
    @example(SPECIAL[3])
    def test_block_lists_are_exactly_those_of_the_mask_per_score(self, kernel, block, rows):
        segments, seen = self.seen(rows)
        mask = mask_of(segments, rows=self.ROWS, length=self.LENGTH, dtype=torch.float32, kernel=kernel)
        assert isinstance(mask, BlockedMask)
        blocks = mask.blocks
        seen = seen | (torch.eye(self.LENGTH, dtype=torch.bool) & ~seen.any(-1)[..., None])  # padding sees itself
        number = -(-self.LENGTH // block)
        rest = number * block - self.LENGTH
        by_block = F.pad(seen, (0, rest, 0, rest)).view(self.ROWS, number, block, number, block)
        some = by_block.any(2).any(-1)
        # Queries past the end of the row do not exist and are ignored; keys past it are masked, so a block is not full.
        exists = F.pad(torch.ones(self.ROWS, self.LENGTH, self.LENGTH, dtype=torch.bool), (0, rest, 0, rest))
        real = exists.view(by_block.shape).any(-1, keepdim=True)
        whole = (by_block | ~real).all(2).all(-1)
        assert torch.equal(listed(blocks.full_kv_num_blocks, blocks.full_kv_indices), whole)
        assert torch.equal(listed(blocks.kv_num_blocks, blocks.kv_indices), some & ~whole)
        assert torch.equal(listed(blocks.full_q_num_blocks, blocks.full_q_indices), whole.mT)
        assert torch.equal(listed(blocks.q_num_blocks, blocks.q_indices), (some & ~whole).mT)

    def test_on_a_cpu_dense_is_selected_and_the_others_are_refused_with_a_reason(self):
        device = torch.device("cpu")
        shape = {"rows": 2, "length": 64, "sample_tokens": 20}
        timings = measure(config_for("tiny", 10), **shape, device=device, dtype=torch.float32)
        assert fastest(timings) == "dense"
        assert [timing.kernel for timing in timings if timing.milliseconds is None] == [
            "flex",
            "flex64",
            "flash",
            "varlen",
        ]
        assert "flex has no backward pass without a CUDA device" in describe(timings)

    def test_a_kernel_with_other_results_is_refused(self, monkeypatch):
        def off(kernel: Kernel, **_: Any) -> str:
            return "" if kernel in ("dense", "varlen") else "is not tested"

        monkeypatch.setattr("model.kernels.unavailable", off)
        monkeypatch.setattr("model.attention.varlen_attn", lambda q, *_, **__: q * 1.5)
        shape = {"rows": 2, "length": 64, "sample_tokens": 20}
        timings = measure(config_for("tiny", 10), **shape, device=torch.device("cpu"), dtype=torch.float32)
        assert fastest(timings) == "dense"
        assert "varlen differs from dense by" in describe(timings)

    @pytest.mark.gpu
    def test_on_a_gpu_all_available_kernels_run(self, cuda):
        shape = {"rows": 2, "length": 1024, "sample_tokens": 237}
        timings = measure(config_for("L", 10), **shape, device=torch.device(cuda), dtype=torch.bfloat16)
        for timing in timings:
            known = unavailable(timing.kernel, device=torch.device(cuda), dtype=torch.bfloat16)
            assert (timing.milliseconds is None) == bool(known), timing


def listed(numbers: Tensor, indices: Tensor) -> Tensor:
    """Blocks of a list of FlexAttention as a bool [R, blocks, blocks]."""
    rows, _, blocks, _ = indices.shape
    found = torch.zeros(rows, blocks, blocks, dtype=torch.bool)
    for r, query in itertools.product(range(rows), range(blocks)):
        found[r, query, indices[r, 0, query, : int(numbers[r, 0, query])].long()] = True
    return found


class TestRope:
    @given(st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 90))
    def test_scores_depend_on_the_distance_only(self, query_at, key_at, shift):
        q, k = torch.randn((2, 1, 1, 3, 32), generator=torch.Generator().manual_seed(0))
        query_at, key_at = max(query_at, key_at), min(query_at, key_at)

        def score(i: int, j: int) -> Tensor:
            rotated_q = Rope.at(torch.tensor([[i]]), 32, 10_000.0).rotate(q)
            rotated_k = Rope.at(torch.tensor([[j]]), 32, 10_000.0).rotate(k)
            return (rotated_q * rotated_k).sum(-1)

        torch.testing.assert_close(score(query_at, key_at), score(query_at + shift, key_at + shift), atol=1e-2, rtol=0)

    def test_channel_i_rotates_with_channel_i_plus_half(self):
        config = config_for("tiny", 10)
        x = torch.zeros(1, 1, 1, config.head_dim)
        x[..., 3] = 1
        rotated = Rope.at(torch.tensor([[5]]), config.head_dim, config.rope_theta).rotate(x)[0, 0, 0]
        angle = torch.tensor(5 * 10_000.0 ** (-2 * 3 / config.head_dim))
        assert rotated.nonzero().flatten().tolist() == [3, 3 + config.head_dim // 2]
        torch.testing.assert_close(rotated[rotated != 0], torch.stack((angle.cos(), angle.sin())))

    def test_position_zero_is_not_rotated_and_all_rotations_keep_the_norm(self):
        x = torch.randn((1, 50, 2, 16), generator=torch.Generator().manual_seed(0))
        rotated = Rope.at(torch.arange(50)[None], 16, 10_000.0).rotate(x)
        assert torch.equal(rotated[:, 0], x[:, 0])
        torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))

    def test_low_precision_input_is_rotated_in_fp32(self):
        x = torch.randn((1, 4, 2, 16), generator=torch.Generator().manual_seed(0)).bfloat16()
        rope = Rope.at(torch.arange(4000, 4004)[None], 16, 10_000.0)
        assert torch.equal(rope.rotate(x), rope.rotate(x.float()).bfloat16())
