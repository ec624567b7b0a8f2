"""Make the Keras and TFLite files that tests read, and the weights they are of: tests/support/small.

They are of one small network for MNIST, whose answers tests know from its weights alone, and of networks of a few
numbers. The weights are trained in the environment of development, the files are made where TensorFlow is installed:

    .venv/bin/python scripts/small_files.py train
    python3 -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu==2.21.0
    /tmp/tf/bin/python scripts/small_files.py convert
"""

import os
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "tests" / "support" / "small"
WEIGHTS = "small.npz"
"""Kernels as Keras keeps them, and 50 images of the test split with their labels: uint8 `[50, 28, 28, 1]`."""


def train() -> None:
    """Train the network on MNIST's training split for two epochs, the same on every run."""
    import torch
    from torch import nn

    from assay.data.mnist import mnist

    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()), nn.Flatten(), nn.Linear(576, 10)
    )
    x, y = mnist("train")
    x = x.float() / 255 if x.dtype is torch.uint8 else x
    steps = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(net(x[rows].view(-1, 1, 28, 28)), y[rows])
            steps.zero_grad()
            loss.backward()
            steps.step()
    test, labels = mnist("test")
    test = test.float() / 255 if test.dtype is torch.uint8 else test
    with torch.no_grad():
        right = (net(test.view(-1, 1, 28, 28)).argmax(1) == labels).float().mean()
    print(f"{float(right):.4f} right")
    # Keras flattens channels last, and keeps kernels [height, width, in, out]
    dense = net[5].weight.detach().view(10, 16, 6, 6).permute(2, 3, 1, 0).reshape(576, 10)
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(
        FOLDER / WEIGHTS,
        kernel_0=net[0].weight.detach().permute(2, 3, 1, 0).numpy(),
        bias_0=net[0].bias.detach().numpy(),
        kernel_1=net[2].weight.detach().permute(2, 3, 1, 0).numpy(),
        bias_1=net[2].bias.detach().numpy(),
        kernel_2=dense.numpy(),
        bias_2=net[5].bias.detach().numpy(),
        images=(test[:50].reshape(50, 28, 28, 1) * 255).round().byte().numpy(),
        labels=labels[:50].numpy(),
    )


def convert() -> None:
    """Write the files."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    layers = tf.keras.layers
    known = np.load(FOLDER / WEIGHTS)

    def small(end: str, first: tuple = ()) -> "tf.keras.Model":
        model = tf.keras.Sequential(
            [
                tf.keras.Input((28, 28, 1)),
                *first,
                layers.Conv2D(8, 3, 2, activation="relu"),
                layers.Conv2D(16, 3, 2, activation="relu"),
                layers.Flatten(),
                layers.Dense(10, activation=end),
            ]
        )
        names = [f"{kind}_{at}" for at in range(3) for kind in ("kernel", "bias")]
        model.set_weights([known[name] for name in names])
        return model

    small("softmax").save(FOLDER / "small.keras")

    def images():
        for image in known["images"]:
            yield [image[None].astype(np.float32) / 255]

    def symmetric():
        for (image,) in images():
            yield [image * 2 - 1]

    def write(name: str, model: "tf.keras.Model", kind: str = "", given=images) -> None:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if kind in ("float16", "int8", "uint8", "inside"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind in ("int8", "uint8", "inside"):
            converter.representative_dataset = given
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if kind in ("int8", "uint8"):
            converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
        if kind == "flex":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
        converter.allow_custom_ops = kind == "custom"
        content = converter.convert()
        (FOLDER / f"{name}.tflite").write_bytes(content)
        print(name, len(content))

    write("float", small("softmax"))
    write("float16", small("linear"), "float16")
    write("int8", small("softmax"), "int8")
    write("uint8", small("linear"), "uint8")
    write("inside", small("softmax"), "inside")
    write("bytes", small("linear", (layers.Rescaling(1 / 255),)))
    write("symmetric", small("linear", (layers.Rescaling(0.5, 0.5),)), "uint8", symmetric)

    image = tf.keras.Input((4, 4, 1))
    flat = layers.Flatten()(image)
    fixed = {"kernel_initializer": tf.keras.initializers.RandomNormal(seed=1), "bias_initializer": "ones"}
    write("sigmoid", tf.keras.Model(image, layers.Dense(1, activation="sigmoid", **fixed)(flat)))
    write("sigmoids", tf.keras.Model(image, layers.Dense(3, activation="sigmoid", **fixed)(flat)))
    zero = {**fixed, "bias_initializer": "zeros"}
    write("relu", tf.keras.Model(image, layers.Dense(3, activation="relu", **zero)(flat)))
    two = [layers.Dense(3, name="a", **fixed)(flat), layers.Dense(2, name="b", **fixed)(flat)]
    write("two-outputs", tf.keras.Model(image, two))
    other = tf.keras.Input((4,))
    write("two-inputs", tf.keras.Model([image, other], layers.Dense(3, **fixed)(layers.Concatenate()([flat, other]))))
    anywhere = tf.keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, **fixed)(anywhere))
    write("any-size", tf.keras.Model(anywhere, layers.Dense(3, **fixed)(pooled)))

    four = tf.keras.Input(batch_shape=(4, 4, 4, 1))
    write("four-rows", tf.keras.Model(four, layers.Dense(3, **fixed)(layers.Flatten()(four))))
    first = tf.keras.Input((3, 6, 5))
    flat_first = layers.Flatten()(layers.Permute((2, 3, 1))(first))
    write("channels-first", tf.keras.Model(first, layers.Dense(3, **fixed)(flat_first)))

    class Inverse(layers.Layer):
        def call(self, x):
            return tf.reshape(tf.linalg.inv(tf.reshape(x, [1, 4, 4]) + 2 * tf.eye(4)), [1, 16])

    class Beta(layers.Layer):
        def call(self, x):
            return tf.raw_ops.Betainc(a=x + 1.0, b=x + 2.0, x=x)

    write("flex", tf.keras.Model(image, layers.Dense(3, **fixed)(Inverse()(flat))), "flex")
    write("custom", tf.keras.Model(image, layers.Dense(3, **fixed)(Beta()(flat))), "custom")


if __name__ == "__main__":
    {"train": train, "convert": convert}[sys.argv[1]]()
