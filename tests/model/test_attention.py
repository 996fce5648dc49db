"""Claims about who sees whom, and about rotary embedding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.attention import attend, dense_mask, key_intervals
from model.config import config_for
from model.rope import Rope
from tests.model.packing import Sample, pack, samples
from tests.model.reference import sees

LENGTH = 16


@st.composite
def packings(draw: st.DrawFn) -> list[list[Sample]]:
    """Rows of samples that fit into LENGTH, rows without any among them."""
    rows = []
    for row in draw(st.lists(st.lists(samples(), max_size=5), min_size=1, max_size=4)):
        while sum(map(len, row)) > LENGTH:
            row.pop()
        rows.append(row)
    return rows


def seen_by_rule(rows: list[list[Sample]]) -> Tensor:
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
def test_positions_see_exactly_what_prefix_lm_says_in_every_packing(rows):
    begin, end = key_intervals(pack(rows, LENGTH).segments, len(rows), LENGTH)
    mask = dense_mask(begin, end, LENGTH, torch.float32)
    seen = seen_by_rule(rows)
    sighted = seen.any(-1, keepdim=True)
    assert torch.equal(mask.sighted[..., 0] == 1, sighted)
    assert torch.equal(mask.bias[:, 0] == 0, seen | ~sighted)
    assert torch.equal(mask.bias[:, 0] == float("-inf"), ~seen & sighted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(deadline=None, max_examples=20)
@given(rows=packings(), seed=st.integers(0, 1000))
def test_queries_without_keys_give_zero_and_finite_gradients(device, dtype, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, len(rows), LENGTH, 2, 8)
    qkv = torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
    begin, end = key_intervals(pack(rows, LENGTH).segments.to(device), len(rows), LENGTH)
    out = attend(*qkv, dense_mask(begin, end, LENGTH, dtype))
    blind = ~seen_by_rule(rows).any(-1)
    assert (out[blind.to(device)] == 0).all()
    assert out.isfinite().all()
    out.float().square().sum().backward()
    assert qkv.grad is not None
    assert qkv.grad.isfinite().all()
    assert (qkv.grad[:, blind.to(device)] == 0).all()


def test_attention_equals_a_softmax_over_the_seen_keys(device):
    rows = [[Sample(tuple(range(9)), 4), Sample(tuple(range(5)), 1)], [Sample(tuple(range(LENGTH)), LENGTH)]]
    q, k, v = torch.randn((3, 2, LENGTH, 2, 8), generator=torch.Generator().manual_seed(0)).to(device)
    begin, end = key_intervals(pack(rows, LENGTH).segments.to(device), 2, LENGTH)
    out = attend(q, k, v, dense_mask(begin, end, LENGTH, torch.float32)).cpu()
    scores = torch.einsum("rqhd,rkhd->rhqk", q.double(), k.double()).cpu() / 8**0.5
    weights = scores.masked_fill(~seen_by_rule(rows)[:, None], float("-inf")).softmax(-1).nan_to_num()
    expected = torch.einsum("rhqk,rkhd->rqhd", weights, v.double().cpu())
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


class TestRope:
    @given(st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 90))
    def test_scores_depend_on_the_distance_only(self, query_at, key_at, shift):
        q, k = torch.randn((2, 1, 1, 3, 32), generator=torch.Generator().manual_seed(0))
        query_at, key_at = max(query_at, key_at), min(query_at, key_at)

        def score(i: int, j: int) -> Tensor:
            turned_q = Rope.at(torch.tensor([[i]]), 32, 10_000.0).turn(q)
            turned_k = Rope.at(torch.tensor([[j]]), 32, 10_000.0).turn(k)
            return (turned_q * turned_k).sum(-1)

        torch.testing.assert_close(score(query_at, key_at), score(query_at + shift, key_at + shift), atol=1e-2, rtol=0)

    def test_channel_i_turns_with_channel_i_plus_half(self):
        config = config_for("tiny", 10)
        x = torch.zeros(1, 1, 1, config.head_dim)
        x[..., 3] = 1
        turned = Rope.at(torch.tensor([[5]]), config.head_dim, config.rope_theta).turn(x)[0, 0, 0]
        angle = torch.tensor(5 * 10_000.0 ** (-2 * 3 / config.head_dim))
        assert turned.nonzero().flatten().tolist() == [3, 3 + config.head_dim // 2]
        torch.testing.assert_close(turned[turned != 0], torch.stack((angle.cos(), angle.sin())))

    def test_position_zero_turns_nothing_and_all_keep_the_norm(self):
        x = torch.randn((1, 50, 2, 16), generator=torch.Generator().manual_seed(0))
        turned = Rope.at(torch.arange(50)[None], 16, 10_000.0).turn(x)
        assert torch.equal(turned[:, 0], x[:, 0])
        torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))

    def test_low_precision_input_is_turned_in_fp32(self):
        x = torch.randn((1, 4, 2, 16), generator=torch.Generator().manual_seed(0)).bfloat16()
        rope = Rope.at(torch.arange(4000, 4004)[None], 16, 10_000.0)
        assert torch.equal(rope.turn(x), rope.turn(x.float()).bfloat16())
