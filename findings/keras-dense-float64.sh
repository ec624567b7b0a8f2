#!/usr/bin/env bash
# Keras 3.15.1 on its torch backend: Dense(dtype="float64") on float64 images answers in float64 that was computed in
# float32, without a word (keras.ops.matmul of two float64 tensors is float32). Conv2D(dtype="float64") computes in
# float64. A copy of a network in double precision, made to see whether a zero gradient is one, would be none.
# Prints both differences from torch; exits 1 when this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check keras==3.15.1 torch==2.14.1 2>/dev/null
cd "$work"
KERAS_BACKEND=torch "$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import keras
import torch

keras.utils.set_random_seed(0)
x = torch.rand(5, 8, 8, 3, dtype=torch.float64)
conv, dense = keras.layers.Conv2D(4, 3, dtype="float64"), keras.layers.Dense(4, dtype="float64")
with torch.no_grad():
    seen = conv(x).permute(0, 3, 1, 2)
    kernel = conv.kernel.value.permute(3, 2, 0, 1)
    known = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel, conv.bias.value)
    flat = x.flatten(1)
    answers = dense(flat)
    expected = flat @ dense.kernel.value + dense.bias.value
off = {"Conv2D": float((seen - known).abs().max()), "Dense": float((answers - expected).abs().max())}
for name, by in off.items():
    print(f"Keras {keras.__version__}, {name} of {x.dtype}: {answers.dtype}, off by {by:.1e}")
sys.exit(0 if off["Conv2D"] < 1e-12 and off["Dense"] > 1e-9 and answers.dtype is torch.float64 else 1)
PYTHON
