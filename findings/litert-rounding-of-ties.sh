#!/usr/bin/env bash
# ai-edge-litert 2.3.0: a value halfway between two whole numbers is rounded to the even one by LiteRT's fast kernels, with
# and without its default delegate, and away from zero by its reference kernels. TensorFlow's converter gives an input in
# [-1, 1] a scale of 1/127.5 and a zero point of -1, so that every byte of a picture lies halfway: two neighbouring bytes
# become one value with the former, and none with the latter. tie.tflite quantises its input and gives it back.
# Prints what 0.5, 1.5, 2.5 and 3.5 steps become; exits 1 when this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check ai-edge-litert==2.3.0 tensorflow-cpu==2.21.0 2>/dev/null
cd "$work"
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def examples():
    for white in (1.0, -1.0):
        yield [np.full((1, 4, 4, 1), white, np.float32)]


layer = tf.keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones")
converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Sequential([tf.keras.Input((4, 4, 1)), layer]))
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = examples
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
content = converter.convert()

step = np.float32(2 / 255)
halves = np.array([0.5, 1.5, 2.5, 3.5])
image = np.zeros((1, 4, 4, 1), np.float32)
image[0, 0, :, 0] = halves * step
found = {}
for kind in ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"):
    made = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=OpResolverType[kind])
    made.allocate_tensors()
    made.set_tensor(made.get_input_details()[0]["index"], image)
    made.invoke()
    answers = made.get_tensor(made.get_output_details()[0]["index"])[0, 0, :, 0]
    found[kind] = np.rint(answers / step).astype(int).tolist()
    print(f"{kind}: {halves.tolist()} steps become {found[kind]}")
even, away = [0, 2, 2, 4], [1, 2, 3, 4]
wanted = {"AUTO": even, "BUILTIN_WITHOUT_DEFAULT_DELEGATES": even, "BUILTIN_REF": away}
sys.exit(0 if found == wanted else 1)
PYTHON
