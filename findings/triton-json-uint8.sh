#!/usr/bin/env bash
# Triton 2.51.0 (in nvidia-pytriton 0.7.0) takes 300 in the JSON of a UINT8 input for 44, with status 200: the value modulo
# 256. It refuses -1 and 100.6 there. The binary form cannot hold such a value.
# Needs a Python that PyTriton supports, as the system's: PYTHON=/usr/bin/python3. Prints the answers; exits 1 when this
# changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-/usr/bin/python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-compile nvidia-pytriton==0.7.0 2>/dev/null
cd "$work"
export PYTRITON_HOME="$work"
"$work/venv/bin/python" -W ignore - 2> "$work/log" <<'PYTHON'
import json
import logging
import socket
import sys
import time
import urllib.error
import urllib.request

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

logging.disable(logging.CRITICAL)
sockets = [socket.socket() for _ in range(3)]
for one in sockets:
    one.bind(("127.0.0.1", 0))
http, grpc, metrics = (one.getsockname()[1] for one in sockets)
for one in sockets:
    one.close()
here = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1", "metrics_address": "127.0.0.1"}


@batch
def same(x):
    return {"y": x.astype(np.int32)}


def answer(value):
    image = {"name": "x", "datatype": "UINT8", "shape": [1, 1], "data": [value]}
    body = json.dumps({"inputs": [image]}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{http}/v2/models/same/infer", body, timeout=30) as answered:
            return json.load(answered)["outputs"][0]["data"][0]
    except urllib.error.HTTPError as error:
        return f"status {error.code}"


with Triton(config=TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics, **here)) as triton:
    triton.bind(
        model_name="same", infer_func=same, inputs=[Tensor(name="x", dtype=np.uint8, shape=(1,))],
        outputs=[Tensor(name="y", dtype=np.int32, shape=(1,))], config=ModelConfig(max_batch_size=4),
    )
    triton.run()
    time.sleep(1)
    answers = {value: answer(value) for value in (255, 300, -1, 100.6)}
for value, given in answers.items():
    print(f"{value} as UINT8: {given}")
sys.exit(0 if answers == {255: 255, 300: 44, -1: "status 500", 100.6: "status 500"} else 1)
PYTHON
