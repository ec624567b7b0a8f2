"""A server of Triton, by PyTriton: `python for_triton.py HTTP GRPC METRICS MODELS.json`."""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from session import Served, Session, models


def bind(triton: Triton, served: Served) -> None:
    """Serve one model."""
    session = Session(served.file)

    @batch
    def infer(**rows: np.ndarray) -> dict[str, np.ndarray]:
        return {served.output: session(rows[served.input])}

    triton.bind(
        model_name=served.name,
        infer_func=infer,
        inputs=[Tensor(name=served.input, dtype=served.dtype, shape=tuple(served.shape))],
        outputs=[Tensor(name=served.output, dtype=np.float32, shape=(served.classes,))],
        config=ModelConfig(max_batch_size=16),
        strict=True,
    )


if __name__ == "__main__":
    http, grpc, metrics = map(int, sys.argv[1:4])
    here = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1", "metrics_address": "127.0.0.1"}
    config = TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics, **here)
    with Triton(config=config) as triton:
        for one in models(sys.argv[4]):
            bind(triton, one)
        triton.serve()
