"""Attention in ONNX Runtime and in OpenVINO, where they are installed (``pip install .[bench]``): optional peers of the CPU rows.

In f32; ``MultiHeadAttention`` has no bf16 on CPUs, and OpenVINO computes in bf16 only where the processor multiplies it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Program = Callable[[], Tensor]


def onnx_runtime(q: Tensor, k: Tensor, v: Tensor, causal: bool, threads: int) -> Program | None:
    """``com.microsoft.MultiHeadAttention``, in its own layout [b, n, h * e]; None without the packages."""
    try:
        import onnx
        import onnxruntime
        from onnx import helper
    except ImportError:
        return None
    if q.dtype != torch.float32:
        return None
    batch, heads, length, width = q.shape
    real = onnx.TensorProto.FLOAT
    names = ("Q", "K", "V")
    node = helper.make_node(
        "MultiHeadAttention", names, ["O"], domain="com.microsoft", num_heads=heads, unidirectional=int(causal)
    )
    values = [helper.make_tensor_value_info(n, real, [batch, length, heads * width]) for n in (*names, "O")]
    graph = helper.make_graph([node], "attention", values[:3], values[3:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    merged = [t.transpose(1, 2).reshape(batch, length, heads * width).contiguous().numpy() for t in (q, k, v)]
    inputs = dict(zip(names, merged, strict=True))

    def run() -> Tensor:
        (found,) = session.run(None, inputs)
        return torch.from_numpy(found).view(batch, length, heads, width).transpose(1, 2)

    return run


def openvino(q: Tensor, k: Tensor, v: Tensor, causal: bool, threads: int) -> Program | None:
    """``ScaledDotProductAttention`` of opset 13; None without the package."""
    try:
        import openvino as ov
        from openvino import opset13 as op
    except ImportError:
        return None
    if q.dtype != torch.float32:
        return None
    inputs = [op.parameter(list(t.shape), ov.Type.f32) for t in (q, k, v)]
    node = op.scaled_dot_product_attention(*inputs, causal=causal)
    model = ov.Model([node], inputs, "attention")
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    arrays = [t.numpy() for t in (q, k, v)]

    def run() -> Tensor:
        return torch.from_numpy(next(iter(request.infer(arrays, share_inputs=True, share_outputs=True).values())))

    return run
