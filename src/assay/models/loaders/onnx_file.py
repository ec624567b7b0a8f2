"""ONNX files (extra `onnx`): scores from onnxruntime, gradients from a conversion that agrees with the file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.core.errors import AssayError, BadInput, ModelError, did_you_mean
from assay.core.oracle import ONE_PASS, Access, LookPasses
from assay.models.classifier import Classifier
from assay.models.deployed import Deployed
from assay.models.normalized import Thresholded
from assay.models.onnx import parity
from assay.models.onnx.graph import Head, chosen_output, head_of
from assay.models.onnx.intake import intake_of, shape_of
from assay.models.onnx.reading import OnnxFile, needed, read
from assay.models.onnx.session import Intake, Session
from assay.models.onnx.twin import CONVERTERS, NONE, Twin, check_converter, converted, why
from assay.models.spec import Options, Request
