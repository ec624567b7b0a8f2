"""`samples`: 20 labelled ImageNet pictures that come with the Foolbox wheel, fetched, checked and cached.

Only picture files are taken from the wheel; no code of it is installed or run.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

from assay.data.cache import fetch_wheel, say
from assay.data.dataset import Source
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import check_labels
from assay.data.mnist import ChecksumMismatch
from assay.files import cache_dir, write_atomically
from assay.models.classifier import Classifier
from assay.models.imagenet import imagenet_classes
from assay.models.weights_file import Unavailable

WHEEL = "foolbox==3.3.4"
WHEEL_SHA256 = "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"
# NN_LABEL -> sha256 of the wheel's foolbox/data/imagenet_NN_LABEL.jpg
SHA256 = {
    "00_243": "28b7b933c8028c6e20bf74a86a709eda42ce99f14c8742cb657cb386f08a4c9d",
    "01_559": "5f03b0c74dff01b5b4195d0beabcae2a625a406e6917957ab9c455b5b7dea6d6",
    "02_438": "ccef0734c1a65549c6cb5adb0f5d9b1c0b2e2104aba50a9e5f9202dc6d4532ed",
    "03_990": "c7f0b2f1e9ee39d8f900759e8983afa2e4a2d7de090060e8bb947f6e90cace5f",
    "04_949": "a7f62f3c1d214de4718c7253871ab38209283249e131faf65b8f2b7fdc970669",
    "05_853": "8a449436c61da867528b1f4efaf8ae832ab9c9201705eae0d3af1353fbdac131",
    "06_609": "fb061102a4e58b3ed942bb2a4f9542e1e1acdc8f225ef95498e93889290e192f",
    "07_609": "2c297ad1e5c4804a647e9b34bc02ee2fc348b05a4d49050d170fb61c948efa5c",
    "08_915": "c6a3411a3987799f0de45adc142f00ca412c3e14073c635e2adfae1f3913180c",
    "09_455": "ace3716b60ac5843269b270e17020e4f8138440cd30ef3487f7d6e54da9745a4",
    "10_541": "f325c71d9f4290ee45e99bd7ad42f4bffe513b1450ad21e7bd61c7cb137395d9",
    "11_630": "892dff58fc528fe63d2df0c783aa3eca2342637798578ce01763fbc0553eda01",
    "12_741": "6c256e17545b25bbf2e06cf6513ff48d049583569515ac4d4c3a52aea804a529",
    "13_471": "52ed0e738b90d27afcabc3e92c81ae637f160c2d9f75b93a65211005ab5dcd81",
    "14_129": "ad9371d813bf24b0365ee2f78f28c08718ee7c5975f060caa16c3f264e828139",
    "15_99": "4b588649cd835d4c65521727ebee03d9621baff1f54d3e8a53a26b53d983ec2e",
    "16_251": "ce3440a3b7beb6ca3009817504c44d39fa789e7c2f70a2eef7e2f9cc9a87b129",
    "17_22": "b432341845620e9cfd67d848c4783c32dd6eaddad45513866b17180d2b09fcf5",
    "18_317": "b9412f92f0b1c3faede45b55a44940977daa744f2040118d0538cf597fca785d",
    "19_305": "e1f58f00e2e47ce930d7ecab0e46a78316054f68c10d0742e87c1cc092324556",
}


def samples(name: str, model: Classifier | None) -> Source:
    """Return the pictures, resized and cropped as the model's weights want; ids are `samples/NN_LABEL`.

    Fetched at the first use, saying so on standard error. Raises `Unavailable` without a connection and
    `ChecksumMismatch` when a picture is not the published one.
    """
    folder = cache_dir() / "samples"
    for key in SHA256:
        _check(folder / f"{key}.jpg") if (folder / f"{key}.jpg").exists() else _fetch(folder)
    labels = tuple(int(key.partition("_")[2]) for key in SHA256)
    if model and model.classes:
        check_labels(labels, len(model.classes), "samples")
    classes = model.classes if model and model.classes else imagenet_classes()
    files = LabelledFiles(folder, tuple(f"{key}.jpg" for key in SHA256), labels, classes)
    return files.source(model, [f"samples/{key}" for key in SHA256])


def _check(path: Path) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[path.stem]:
        raise ChecksumMismatch(f"{path} is not the published picture. Delete it to fetch it again.")


def _fetch(folder: Path) -> None:
    say(f"Fetching 20 labelled ImageNet pictures from the wheel {WHEEL} (2 MB, only its pictures are read)")
    with tempfile.TemporaryDirectory() as place:
        try:
            wheel = fetch_wheel(WHEEL, WHEEL_SHA256, Path(place))
        except Unavailable as error:
            raise Unavailable(
                f"The 20 sample pictures could not be fetched: {error}. On a machine with a connection, run "
                f"`assay data get samples` and copy its {folder} here."
            ) from error
        with zipfile.ZipFile(wheel) as archive:
            for key, expected in SHA256.items():
                content = archive.read(f"foolbox/data/imagenet_{key}.jpg")
                if hashlib.sha256(content).hexdigest() != expected:
                    raise ChecksumMismatch(f"imagenet_{key}.jpg in {WHEEL} is not the published picture.")
                write_atomically(folder / f"{key}.jpg", content)
