"""Claims about the table of kernels by group."""

import io

import pytest
import torch
from rich.console import Console

from tests.benchmarks.profiling import group_of, kernel_times, table_of


@pytest.mark.parametrize(
    ("kernel", "group"),
    [
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NNT", "matrix products"),
        (
            "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>",
            "matrix products",
        ),
        ("aten::mm", "matrix products"),
        (
            "void flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<128, 64, 128, 8>>",
            "attention",
        ),
        ("triton_tem_fused_flex_attention_backward_3", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("triton_poi_fused_add_mm_mul_sigmoid_view_1", "fused elementwise"),
        ("triton_red_fused_flex_attention_mul_sum_5", "fused elementwise"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<LerpFunctor>", "optimizer"),
        (
            "void (anonymous namespace)::cunn_SoftMaxForward<4, float, float, float, LogSoftMaxForwardEpilogue>",
            "softmax and loss",
        ),
        ("Memcpy DtoD (Device -> Device)", "copies and casts"),
        ("void at::native::vectorized_elementwise_kernel<4, MulFunctor<float>>", "other elementwise"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "communication"),
        ("aten::as_strided", "rest"),
    ],
)
def test_kernels_are_grouped_by_what_they_compute(kernel: str, group: str) -> None:
    assert group_of(kernel) == group


def test_profile_of_a_step_has_its_products_and_all_of_its_time() -> None:
    a = torch.randn(400, 400)
    times = kernel_times(lambda: (a @ a).exp().sum(), torch.device("cpu"), steps=3)
    assert times["aten::mm"] > 0
    text = io.StringIO()
    Console(width=120, file=text).print(table_of(times, wall=1.0))
    printed = text.getvalue()
    assert "matrix products" in printed
    assert "other elementwise" in printed
