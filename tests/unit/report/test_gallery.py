from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from assay.core.errors import BadInput
from assay.evaluation.run import Run
from assay.report import gallery
from assay.report.groups import Group
from tests.support.fake_run import HOSTILE, HOSTILE_FILE


def decoded(png: bytes) -> torch.Tensor:
    picture = Image.open(io.BytesIO(png))
    raw = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return raw.reshape(picture.height, picture.width, -1).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def shelves(run: Run, found: list[Group]) -> list[gallery.Shelf]:
    return gallery.shelves(run, found, 8_000_000)


def test_each_attack_shows_most_least_and_survivors(shelves: list[gallery.Shelf]) -> None:
    assert [shelf.title for shelf in shelves] == ["fgsm", "bim(steps=10)", "pgd(steps=40)", "fgsm"]
    for shelf in shelves:
        assert {card.role for card in shelf.cards} == {"broken, most changed", "broken, least changed", "survived"}
        assert len({card.sample_id for card in shelf.cards}) == len(shelf.cards)


def test_pictures_are_what_the_model_saw(run: Run, shelves: list[gallery.Shelf]) -> None:
    cell = next(iter(run.cells))
    picture = gallery.choose(run.gallery(cell))[0]
    card = shelves[0].cards[0]
    assert torch.allclose(decoded(card.pictures["original"]), picture.original, atol=0.5 / 255 + 1e-6)
    after = (picture.original + picture.perturbation.float()).clamp(0, 1)
    assert torch.allclose(decoded(card.pictures["adversarial"]), after, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("largest", "factor"), [(0.1, 5), (0.007, 50), (0.3, 1), (4 / 255, 20), (2.0, 1), (0.0, 1), (1 / 4000, 2000)]
)
def test_changes_are_magnified_by_a_round_factor_that_stays_in_range(largest: float, factor: int) -> None:
    change = torch.tensor([[[largest, -largest / 2]]])
    assert gallery.magnification(change) == factor
    assert factor == 1 or factor * largest <= 0.501


def test_bars_are_the_five_likeliest_with_the_truth_marked() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0, -1.0, -2.0])
    found = gallery.bars(logits, 3, None)
    assert [bar.name for bar in found] == ["1", "3", "2", "0", "4"]
    assert [bar.truth for bar in found] == [False, True, False, False, False]
    assert [bar.share for bar in found] == pytest.approx(logits.softmax(0).sort(descending=True).values[:5].tolist())


def test_pictures_are_also_files_with_harmless_names(shelves: list[gallery.Shelf], tmp_path: Path) -> None:
    written = gallery.write_pictures(shelves, tmp_path / "pictures")
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == len(files) == 3 * sum(len(shelf.cards) for shelf in shelves)
    assert all(path.startswith("pictures/") and path.count("/") == 1 and path.endswith(".png") for path in files)
    assert not any(set(path) & set("<>'\"& ") for path in files)
    Image.open(tmp_path / files[0]).verify()


def test_names_are_kept_as_they_are(shelves: list[gallery.Shelf]) -> None:
    scenes = shelves[-1].cards
    assert all(card.sample_id.startswith(HOSTILE_FILE) for card in scenes)
    assert any(HOSTILE in card.title for card in scenes)
    assert not scenes[0].tiny and shelves[0].cards[0].tiny


def test_a_page_does_not_grow_without_bound(run: Run, found: list[Group]) -> None:
    shown = gallery.shelves(run, found, 400_000)
    assert all(shelf.cards for shelf in shown)
    assert sum(card.weight for shelf in shown for card in shelf.cards) < 500_000


def test_numbers_that_are_none_do_not_stop_a_picture() -> None:
    assert decoded(gallery.png(torch.tensor([[[float("nan"), 2.0, -1.0, 0.5]]]))).flatten().tolist() == pytest.approx(
        [0.0, 1.0, 0.0, 128 / 255]
    )


@pytest.mark.parametrize(
    ("channels", "bands", "shown"),
    [
        (1, None, (0,)),
        (2, None, (0,)),
        (3, None, (0, 1, 2)),
        (4, None, (0, 1, 2)),
        (8, None, (0, 4, 7)),
        (3, [2, 0, 1], (0, 1, 2)),
        (5, [4, 0, 0], (4, 0, 0)),
        (200, [150], (150,)),
    ],
)
def test_of_many_bands_three_are_shown(channels: int, bands: list[int] | None, shown: tuple[int, ...]) -> None:
    pixels = torch.arange(channels)[:, None, None].expand(channels, 2, 3) / 255
    picture = decoded(gallery.png(pixels, bands=bands))
    assert (picture[:, 0, 0] * 255).round().int().tolist() == list(shown)
    assert gallery.shown_bands(channels, bands) == shown


@pytest.mark.parametrize("bands", [[8], [0, 1], [0, 1, -1], []])
def test_bands_that_are_not_there_are_refused(bands: list[int]) -> None:
    with pytest.raises(BadInput, match="numbered from 0 to 7"):
        gallery.png(torch.zeros(8, 2, 2), bands=bands)
