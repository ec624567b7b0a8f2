"""Masks of a study: read, checked, named by their content, and kept to by every worker and by the audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import assay
from assay.core.budget import parse_budget
from assay.core.errors import BadInput
from assay.core.masks import Mask
from assay.core.threat import L2, Linf
from assay.evaluation.cell import Cell
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.study.masks import Chosen, mask_for, name_of, read_mask, resolved
from assay.evaluation.study.spec import Study, ThreatSpec
from tests.support.tiny import (
    data,
    evaluate,
    images,
    patterns,
    rows,
    run_here,
    study,
    write_model,
    write_pictures,
)


def window(top: int = 2, left: int = 1) -> np.ndarray:
    mask = np.zeros((8, 8), np.uint8)
    mask[top : top + 4, left : left + 5] = 255
    return mask


def threat(**more: Any) -> ThreatSpec:
    return ThreatSpec.model_validate({"norm": "linf", "eps": ["8/255"], **more})


def rgba(mask: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([mask, mask, mask, alpha]))


LIT = torch.from_numpy(window() > 0)[None]
OPAQUE = np.full((8, 8), 255, np.uint8)
PICTURES: dict[str, Image.Image] = {
    "grey": Image.fromarray(window()),
    "grey of one level": Image.fromarray(window() // 255),
    "blue alone": Image.fromarray(np.dstack([0 * window(), 0 * window(), window() // 255])),
    "black and white": Image.fromarray(window() > 0),
    "sixteen bits": Image.fromarray((window() > 0).astype(np.uint16)),
    "alpha over white": rgba(OPAQUE, window() // 2),
    "alpha over black": rgba(0 * OPAQUE, window()),
    "opaque": rgba(window(), OPAQUE),
    "palette": Image.fromarray(window()).convert("P"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_what_a_picture_lets_change(kind: str, tmp_path: Path) -> None:
    PICTURES[kind].save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png"), LIT)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = Image.fromarray((window() > 0).astype(np.uint8), "L").convert("P")
    palette.putpalette([9, 9, 9] * 256)
    palette.save(tmp_path / "mask.png", transparency=palette.getpixel((0, 0)))
    assert torch.equal(read_mask(tmp_path / "mask.png"), LIT)


ARRAYS = [LIT[0], LIT, LIT.expand(3, 8, 8), LIT.int(), LIT.double()]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype} {array.ndim}")
def test_arrays(array: Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", array.numpy())
    assert torch.equal(read_mask(tmp_path / "mask.npy"), array.bool() if array.ndim == 3 else LIT)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((8, 8), 0.5), "holds 0.5"),
        (np.ones((2, 1, 8, 8)), "one per image.*give a folder"),
        (np.ones(8), r"shape \[8\]"),
        (np.array([None, {}]), "could not be read"),
        (np.array(["a"]), "could not be read"),
    ],
)
def test_arrays_that_are_no_mask(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", array)
    with pytest.raises(BadInput, match=message):
        read_mask(tmp_path / "mask.npy")


def test_files_that_are_no_mask(tmp_path: Path) -> None:
    Image.fromarray(window()).save(tmp_path / "mask.jpg")
    with pytest.raises(BadInput, match="JPEG, whose black is not quite black"):
        read_mask(tmp_path / "mask.jpg")
    for name in ("mask.png", "mask.npy"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(BadInput, match=f"{name} could not be read"):
            read_mask(tmp_path / name)


def save(path: Path, mask: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("mask", "channels", "message"),
    [
        (0 * window(), None, "is empty: no value may change"),
        (np.ones((8, 9), np.uint8), None, "is 1 x 8 x 9, the images are 3 x 8 x 8 as the model sees them"),
        (np.ones((1, 1), np.uint8), None, "is 1 x 1 x 1, the images are 3 x 8 x 8"),
        (None, None, "There is no mask .*Did you mean"),
        (window(), [3], "channels holds 3, but the images have 3 channels, numbered from 0 to 2"),
    ],
)
def test_a_mask_that_does_not_fit(mask: Any, channels: Any, message: str, tmp_path: Path) -> None:
    save(tmp_path / "mask.png", window() if mask is None else mask)
    name = "mark.png" if mask is None else "mask.png"
    with pytest.raises(BadInput, match=message):
        resolved(threat(mask=str(tmp_path / name), channels=channels), data(6), (3, 8, 8), {})


def test_a_mask_is_named_by_what_it_lets_change(tmp_path: Path) -> None:
    given = data(6)

    def of(**more: Any) -> ThreatSpec:
        return resolved(threat(**more), given, None, {})

    one = of(mask=save(tmp_path / "a.png", window()))
    np.save(tmp_path / "b.npy", window() > 0)
    assert one.mask_digest == of(mask=save(tmp_path / "a.bmp", window() // 3)).mask_digest
    assert one.mask_digest == of(mask=str(tmp_path / "b.npy")).mask_digest
    assert one.mask_digest != of(mask=save(tmp_path / "c.png", window(3))).mask_digest
    assert one.mask_share == 20 / 64
    assert one.label == "linf mask=a.png(31.2%)"
    two = of(mask=str(tmp_path / "a.png"), channels=2)
    assert (two.mask_share, two.label) == (pytest.approx(20 / 192), "linf mask=a.png(10.4%) channels=2")
    three = of(channels=[2, 0])
    assert (three.mask_digest, three.label) == (None, "linf channels=0,2")
    assert of(mask=save(tmp_path / "with space.png", window())).label.split()[1] == "mask=with_space.png(31.2%)"
    with pytest.raises(BadInput, match="expected 0123"):
        of(mask=str(tmp_path / "a.png"), mask_digest="0123")


def test_a_cell_with_a_mask_reads_back_and_is_another_cell(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    source = write_pictures(tmp_path / "pictures", 8)
    save(tmp_path / "mask.png", window())

    def cells(**more: Any) -> tuple[Cell, ...]:
        spec = {"norm": "linf", "eps": ["8/255"], **more}
        return make_plan(study(model, source, threats=spec, attacks="fgsm"), Loader()).cells

    (plain,), (masked,) = cells(), cells(mask=str(tmp_path / "mask.png"))
    (channel,) = cells(channels=1)
    assert len({plain.digest, masked.digest, channel.digest}) == 3
    for cell in (plain, masked, channel):
        assert Cell.of(cell.plain()) == cell and Cell.of(cell.plain()).digest == cell.digest
    assert not set(plain.plain()) & {"mask", "mask_digest", "mask_share", "channels"}
    # where a mask lies says nothing: what it is does, and so does what it is called
    save(tmp_path / "elsewhere" / "mask.png", window())
    assert cells(mask=str(tmp_path / "elsewhere" / "mask.png"))[0].digest == masked.digest
    save(tmp_path / "mask.png", window(3))
    assert cells(mask=str(tmp_path / "mask.png"))[0].digest != masked.digest
    both = [{"norm": "linf", "eps": "8/255", "mask": str(tmp_path / at / "mask.png")} for at in ("", "elsewhere")]
    with pytest.raises(BadInput, match="Two masks go by the name"):
        make_plan(study(model, source, threats=both, attacks="fgsm"), Loader())


def test_a_mask_of_everything_is_noted(tmp_path: Path) -> None:
    spec = {"norm": "linf", "eps": "8/255", "mask": save(tmp_path / "mask.png", OPAQUE)}
    given = study(write_model(tmp_path), write_pictures(tmp_path / "pictures", 4), threats=spec, attacks="fgsm")
    assert make_plan(given, Loader()).notes == (
        "linf mask=mask.png(100%): every value may change, so that the mask limits nothing.",
    )


@pytest.mark.parametrize(
    ("threats", "message"),
    [
        ({"channels": []}, "threats.0..channels: .*such as .3."),
        ({"channels": [1, 1]}, "threats.0..channels"),
        ({"channels": [-1]}, "threats.0..channels"),
        ({"channels": "red"}, "threats.0..channels"),
        ({"mask": ""}, "threats.0..mask"),
        ({"mask": [0, 1]}, "threats.0..mask"),
    ],
)
def test_slips_in_a_study(threats: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        study("m", "d", threats=[{"norm": "linf", "eps": "8/255", **threats}])


def test_a_study_with_a_mask_reads_back() -> None:
    given = study("m", "d", threats={"norm": "linf", "eps": "8/255", "mask": "mask.png", "channels": 1})
    assert Study.of(given.plain()) == given
    assert "mask" not in study("m", "d").plain()["grids"][0]["threats"][0]


def test_a_folder_of_masks(tmp_path: Path) -> None:
    """Each sample has the mask that is called as it is, by its path or its name, whatever the ending."""
    given = data(6)
    masks = {name: window(i % 4, i % 3) for i, name in enumerate(given.ids)}
    for i, (name, mask) in enumerate(masks.items()):
        save(tmp_path / "masks" / f"{name if i % 2 else Path(name).name}.png", mask)
    spec = resolved(threat(mask=str(tmp_path / "masks")), given, None, {})
    assert spec.mask_share == 20 / 64
    found = mask_for(spec, Chosen(given.ids[2:5], range(2, 5), (3, 8, 8)), {})
    assert found is not None and found.own is not None
    expected = torch.from_numpy(np.stack([masks[name] > 0 for name in given.ids[2:5]]))[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(found.own, expected)
    one = mask_for(spec.model_copy(update={"channels": (1,)}), Chosen(given.ids[:1], [0], (3, 8, 8)), {})
    assert one is not None and one.free[0, 0].sum() == 0 and one.free[0, 1].sum() == 20

    save(tmp_path / "masks" / f"{given.ids[1]}.bmp", window())
    with pytest.raises(BadInput, match="masks of one sample"):
        resolved(threat(mask=str(tmp_path / "masks")), given, None, {})
    (tmp_path / "masks" / f"{given.ids[1]}.bmp").unlink()
    save(tmp_path / "masks" / f"{given.ids[1]}.png", 0 * window())
    with pytest.raises(BadInput, match=r"0001.png is empty"):
        resolved(threat(mask=str(tmp_path / "masks")), given, None, {})
    (tmp_path / "masks" / f"{given.ids[1]}.png").unlink()
    with pytest.raises(BadInput, match=r"1 of 6 samples have no mask in .*: tiny/0001\. .*tiny/0001.png"):
        resolved(threat(mask=str(tmp_path / "masks")), given, None, {})


def test_names_that_two_masks_share_are_no_names(tmp_path: Path) -> None:
    given = data(2)
    for folder in ("a", "b"):
        for name in given.ids:
            save(tmp_path / folder / f"{Path(name).name}.png", window())
    with pytest.raises(BadInput, match="2 of 2 samples have no mask"):
        resolved(threat(mask=str(tmp_path)), given, None, {})


def test_workers_and_one_process_keep_to_the_masks(tmp_path: Path) -> None:
    model, source = write_model(tmp_path), write_pictures(tmp_path / "pictures", 16)
    for i, path in enumerate(sorted((tmp_path / "pictures").rglob("*.png"))):
        save(tmp_path / "masks" / path.relative_to(tmp_path / "pictures"), window(i % 4, 0))
    spec = {"norm": "l0", "eps": ["60", "200"], "mask": str(tmp_path / "masks"), "channels": [0, 1]}
    given = study(model, source, threats=spec, attacks=["salt-and-pepper", {"attack": "fmn", "steps": 4}])
    here = run_here(tmp_path / "here", given)
    apart = run_here(tmp_path / "apart", given, executor="processes", workers=1)
    assert rows(here) == rows(apart)
    sizes = [one["size_l0"] for one in rows(here) if one["status"] == "broken"]
    # 20 pixels of two channels, however many values the budget allows
    assert sizes and max(sizes) <= 40
    assert {one["threat"] for one in rows(here)} == {"l0 mask=masks(20.8%) channels=0,1"}


class Matcher(nn.Module):
    """The tiny model as a module of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter((patterns() - patterns().mean(0)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T * 2


def test_evaluate_in_a_mask_given_as_a_tensor(tmp_path: Path) -> None:
    """The robust accuracy is that of the closed form over the values of the mask."""
    x, y = images(40)
    model, mask = Matcher(), torch.from_numpy(window() > 0)
    attack = {"attack": "apgd-t", "steps": 20, "targets": 3}
    threats = [Linf(eps, mask=mask) for eps in ("8/255", "24/255")] + [Linf("24/255")]
    found = evaluate(model, data(40), [attack], threats, tmp_path / "run")
    name = name_of(Mask.of(mask))
    results = {(one.threat, one.eps_written): one for one in found.results()}
    label = f"linf mask={name}(31.2%)"
    assert set(results) == {(label, "8/255"), (label, "24/255"), ("linf", "24/255")}
    with torch.no_grad():
        right = model(x).argmax(1) == y
        for eps in ("8/255", "24/255"):
            standing = right.clone()
            for other in range(4):
                slope = (model.weight[other] - model.weight[y]).view(-1, 3, 8, 8) * mask
                worst = model((x + parse_budget(eps).value * slope.sign()).clamp(0, 1))
                standing &= worst[:, other] <= worst.gather(1, y[:, None])[:, 0]
            assert results[label, eps].robust_accuracy == pytest.approx(float(standing.double().mean()), abs=1 / 39)
    assert results["linf", "24/255"].robust_accuracy < results[label, "24/255"].robust_accuracy
    again = evaluate(model, data(40), [attack], threats, tmp_path / "run")
    assert again.results() == found.results()


def test_evaluate_with_a_mask_for_each_sample(tmp_path: Path) -> None:
    masks = torch.stack([torch.from_numpy(window(i % 4, i % 3) > 0)[None] for i in range(20)])
    given = assay.evaluate(
        Matcher(), data(20), ["pgd"], L2(1.5, mask=masks), tmp_path / "run", chunk=6, audit="off", doctor=False
    )
    changed = [one["size_l0"] for one in given.records().to_pylist() if one["status"] != "clean_wrong"]
    assert 40 < max(changed) <= 60
    assert given.audit()[0].verdict in ("trusted", "suspect", "refuted")
    with pytest.raises(BadInput, match="19 masks for 20 samples"):
        assay.evaluate(
            Matcher(), data(20), ["pgd"], L2(1.5, mask=masks[1:]), tmp_path / "other", audit="off", doctor=False
        )
    with pytest.raises(BadInput, match="cannot be sent to workers"):
        model = write_model(tmp_path)
        source = write_pictures(tmp_path / "pictures", 20)
        assay.evaluate(
            model,
            source,
            ["pgd"],
            L2(1.5, mask=masks),
            tmp_path / "third",
            executor="processes",
            audit="off",
            doctor=False,
        )
    with pytest.raises(BadInput, match=r"given as a Python object.*Save it as \.npy"):
        assay.evaluate(
            Matcher(),
            data(20),
            ["pgd"],
            {"norm": "l2", "eps": 1, "mask": "given-0123abcd"},
            tmp_path / "4",
            audit="off",
            doctor=False,
        )


def test_a_mask_painted_over_in_the_middle_of_a_run_is_noticed(tmp_path: Path) -> None:
    given = data(6)
    spec = resolved(threat(mask=save(tmp_path / "mask.png", window())), given, None, {})
    save(tmp_path / "mask.png", window(3))
    with pytest.raises(BadInput, match="Leave masks alone in a run"):
        mask_for(spec, Chosen(given.ids, range(6), (3, 8, 8)), {})
