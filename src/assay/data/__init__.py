"""Data: labelled images with stable ids, fetched, checked, resized as the model's weights want, and streamed."""

from assay.data.dataset import Data, PictureError, Sample, Unreadable, image_digest
from assay.data.load import NAMES, load_data
from assay.data.predicted import images_alone
from assay.data.python_objects import given_data
from assay.data.repeatability import check_steady, with_fixed_draws
from assay.data.torch_dataset import holds_pictures
from assay.files import cache_dir
from assay.models.weights_file import Unavailable

__all__ = [
    "NAMES",
    "Data",
    "PictureError",
    "Sample",
    "Unavailable",
    "Unreadable",
    "cache_dir",
    "check_steady",
    "given_data",
    "holds_pictures",
    "image_digest",
    "images_alone",
    "load_data",
    "with_fixed_draws",
]
