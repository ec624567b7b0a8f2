from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_imagenet import fake_imagenet


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ImageNet's 1,000 classes; tests only read it."""
    return fake_imagenet(tmp_path_factory.mktemp("imagenet"))
