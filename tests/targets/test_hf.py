"""`hf:` reads folders and ids of Hugging Face: the answers, pictures and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.data import load_data
from assay.data.pictures import picture_tensor
from assay.files import cache_dir
from assay.models import Classifier, load_model
from assay.models.classifier import Preprocess
from assay.models.weights_file import Unavailable
from tests.support.hf_folders import FAMILIES, NAMES, SIDE, lite0, make, rewritten

pytestmark = pytest.mark.targets
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "vit"
    make("vit", folder)
    return folder


@pytest.fixture
def copy(vit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(vit, tmp_path / "vit"))


def picture(height: int, width: int) -> Image.Image:
    draw = np.random.default_rng(7)
    coarse = Image.fromarray(draw.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def logits_of(model: Any, values: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=values).logits


# ---- right answers


@pytest.mark.parametrize("kind", FAMILIES)
def test_pictures_become_what_the_processor_makes_of_them(kind: str, tmp_path: Path) -> None:
    own = make(kind, tmp_path / "m")
    model = load_model(f"hf:{tmp_path / 'm'}")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "m", backend="pil")
    assert model.classes == NAMES
    assert model.access is Access.GRADIENT
    for size in ((331, 250), (243, 421), (400, 400), (160, 161)):
        x = picture_tensor(picture(*size), model.preprocess)[None]
        values = processor(picture(*size), return_tensors="pt")["pixel_values"]
        # what the network is given: Normalized(Scores(network))
        given = (x - model.module.mean) / model.module.std
        given = given[:, list(model.module.module.order)]
        torch.testing.assert_close(given, values, rtol=0, atol=2e-6 / float(model.module.std.min()))
        want = logits_of(own, values)
        torch.testing.assert_close(model.oracle().answers(x), want, rtol=0, atol=1e-3 * float(want.abs().max()))
        if model.input_shape is not None:
            assert x.shape[1:] == model.input_shape


def test_gradients_are_those_of_the_network(tmp_path: Path) -> None:
    for kind in ("vit", "swin", "convnext"):
        own = make(kind, tmp_path / kind)
        model = load_model(f"hf:{tmp_path / kind}")
        x = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
        (ours,) = torch.autograd.grad(model.module(x).square().sum(), x)
        (theirs,) = torch.autograd.grad(own(pixel_values=(x - 0.5) / 0.5).logits.square().sum(), x)
        torch.testing.assert_close(ours, theirs)
        assert bool((ours != 0).any())
        assert not any(part.training for part in model.module.modules())


def test_real_pictures_through_a_packaged_network(tmp_path: Path) -> None:
    lite0(tmp_path / "lite0")
    ours, theirs = load_model(f"hf:{tmp_path / 'lite0'}"), load_model("efficientnet-lite0")
    assert ours.classes == theirs.classes and ours.synsets == theirs.synsets
    assert (ours.mean, ours.std, ours.input_shape) == (theirs.mean, theirs.std, theirs.input_shape)
    data = [load_data("samples", model=one) for one in (ours, theirs)]
    x, other = (torch.stack([one.read(at) for at in range(6)]) for one in data)
    assert torch.equal(x, other)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "lite0")
    paths = [cache_dir() / f"{name}.jpg" for name in data[0].ids[:6]]
    values = torch.cat(
        [processor(Image.open(one).convert("RGB"), return_tensors="pt")["pixel_values"] for one in paths]
    )
    torch.testing.assert_close((x - ours.module.mean) / ours.module.std, values, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.oracle().answers(x), theirs.oracle().answers(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "deit", "convnext", "levit", "dinov2"])
def test_the_two_processors_of_a_model_are_a_grey_level_apart(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path)
    load_data("samples")  # fetched where they are not there
    by_pillow, by_torchvision = (
        transformers.AutoImageProcessor.from_pretrained(tmp_path, backend=one) for one in ("pil", "torchvision")
    )
    levels = []
    for path in sorted((cache_dir() / "samples").glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        one, other = (made(image, return_tensors="pt")["pixel_values"] for made in (by_pillow, by_torchvision))
        std = torch.tensor(by_pillow.image_std).view(1, 3, 1, 1)
        levels.append(((one - other) * std * 255).abs().flatten())
    off = torch.cat(levels)
    assert 0.99 < float(off.max()) < 1.01
    assert float((off > 0.5).float().mean()) < 0.01


# ---- what is missing, and what is another kind


def refused(folder: Path, options: str = "", **given: Any) -> str:
    with pytest.raises(BadInput) as told:
        load_model(f"hf:{folder}{options}", **given)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_backbone_without_a_head_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(**FAMILIES["vit"].config)
    transformers.ViTModel(config).save_pretrained(tmp_path / "m")
    transformers.ViTImageProcessor(**FAMILIES["vit"].pictures).save_pretrained(tmp_path / "m")
    told = refused(tmp_path / "m")
    assert "(ViTModel)" in told and "lacks classifier.bias, classifier.weight" in told and "random numbers" in told


def test_a_head_of_another_size_is_refused(copy: Path) -> None:
    rewritten(
        copy / "config.json", lambda one: one.update(id2label={str(at): f"c{at}" for at in range(7)}, label2id={})
    )
    assert "holds other sizes: classifier.bias [5] in the file, [7] by config.json" in refused(copy)


def test_lost_weights_are_refused_and_others_told(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    save_file({**state, "extra.weight": torch.ones(2)}, copy / "model.safetensors", {"format": "pt"})
    assert any("left out: extra.weight" in note for note in load_model(f"hf:{copy}").notes)
    name = next(one for one in state if one.endswith("layernorm_after.bias"))
    save_file({key: value for key, value in state.items() if key != name}, copy / "model.safetensors", {"format": "pt"})
    assert "layernorm_after.bias" in refused(copy)


def test_half_precision_is_widened_with_a_note(tmp_path: Path) -> None:
    for dtype, word in ((torch.float16, "F16"), (torch.bfloat16, "BF16")):
        make("vit", tmp_path / word).to(dtype).save_pretrained(tmp_path / word)
        model = load_model(f"hf:{tmp_path / word}")
        assert model.precision is torch.float32
        assert any(f"stored as {word} and were widened" in note for note in model.notes)


def test_pickled_weights_need_consent(copy: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(copy / "model.safetensors")
    want = load_model(f"hf:{copy}")
    torch.save(state, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert "pickled file, which could run code" in refused(copy)
    got = load_model(f"hf:{copy}", allow_pickle=True)
    x = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(got.oracle().answers(x), want.oracle().answers(x))


def test_tensors_alone_are_read_from_pickled_weights(copy: Path) -> None:
    import pickle

    ran = copy / "ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    (copy / "model.safetensors").unlink()
    torch.save({"classifier.weight": Hostile()}, copy / "pytorch_model.bin", pickle_module=pickle)
    assert "could not be loaded" in refused(copy, allow_pickle=True)
    assert not ran.exists()


def test_code_in_the_folder_is_never_run(copy: Path) -> None:
    ran = copy / "ran"
    code = ["from pathlib import Path", f"Path({str(ran)!r}).touch()", "from transformers import ViTConfig as Own"]
    (copy / "modeling_own.py").write_text("\n".join(code))
    auto = {"AutoModelForImageClassification": "modeling_own.Own", "AutoConfig": "modeling_own.Own"}
    rewritten(copy / "config.json", lambda one: one.update(auto_map=auto))
    model = load_model(f"hf:{copy}")
    assert any("code of its own (auto_map)" in note for note in model.notes)
    rewritten(copy / "config.json", lambda one: one.update(model_type="own"))
    assert "comes with code of its own (auto_map), which is never run" in refused(copy)
    rewritten(
        copy / "preprocessor_config.json", lambda one: one.update(auto_map={"AutoImageProcessor": "modeling_own.Own"})
    )
    rewritten(copy / "config.json", lambda one: one.update(model_type="vit"))
    rewritten(copy / "preprocessor_config.json", lambda one: one.update(image_processor_type="OwnProcessor"))
    assert "processor that could not be read" in refused(copy)
    assert not ran.exists()


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "several labels": ({"problem_type": "multi_label_classification"}, "several labels per image.*assay.MultiLabel"),
    "regression": ({"problem_type": "regression"}, "a model for regression, expected a classifier"),
    "one output": ({"id2label": {"0": "score"}}, "one output \\(num_labels 1\\).*regression"),
    "unknown type": ({"model_type": "vitt"}, "model_type 'vitt', which is unknown to transformers"),
    "no type": ({"model_type": None}, "model_type None|model_type 'None'|unknown"),
    "no classifier": ({"model_type": "bert"}, "has no image classifier"),
    "quantised": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised \\(bitsandbytes\\)"),
    "a gap in the labels": (
        {"id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "7": "e"}},
        "names labels 0, 1, 2, 3",
    ),
    "another image size": ({"image_size": 64}, "image_size 64|other sizes"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_that_are_refused(kind: str, copy: Path) -> None:
    import re

    change, told = CONFIGS[kind]
    rewritten(copy / "config.json", lambda one: one.update(change))
    assert re.search(told, refused(copy)), refused(copy)


def test_classes_without_names_are_told(copy: Path) -> None:
    rewritten(
        copy / "config.json", lambda one: one.update(id2label={str(at): f"LABEL_{at}" for at in range(5)}, label2id={})
    )
    model = load_model(f"hf:{copy}")
    assert model.classes is None
    assert any("LABEL_0" in note for note in model.notes)


def test_files_that_are_missing_or_something_else(copy: Path, tmp_path: Path) -> None:
    assert "has no config.json, but vit" in refused(tmp_path) and f"Did you mean hf:{copy}?" in refused(tmp_path)
    assert "is a file; expected the folder" in refused(copy / "config.json")
    assert "Did you mean 'vit'?" in refused(tmp_path / "vitt")
    assert "There is no folder nowhere" in refused(Path("nowhere"))
    weights = copy / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    assert "Git LFS pointer" in refused(copy)
    weights.write_bytes(kept[: len(kept) // 2])
    assert "model.safetensors" in refused(copy) or "could not be loaded" in refused(copy)
    weights.unlink()
    assert "has no model.safetensors" in refused(copy)
    (copy / "tf_model.h5").write_bytes(b"\x89HDF")
    assert "but tf_model.h5, of another framework" in refused(copy)
    (copy / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    assert "model-00001-of-00002.safetensors is missing" in refused(copy)
    (copy / "config.json").write_text("{")
    assert "no readable JSON" in refused(copy)
    (copy / "config.json").unlink()
    (copy / "adapter_config.json").write_text("{}")
    assert "an adapter alone" in refused(copy)


def test_weights_in_several_files(tmp_path: Path) -> None:
    own = make("vit", tmp_path / "m")
    own.save_pretrained(tmp_path / "m", max_shard_size="40KB")
    (tmp_path / "m" / "model.safetensors").unlink(missing_ok=True)
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 1
    x = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(load_model(f"hf:{tmp_path / 'm'}").oracle().answers(x), logits_of(own, (x - 0.5) / 0.5))


# ---- processors


def test_without_a_processor_its_facts_can_be_said(copy: Path) -> None:
    want = load_model(f"hf:{copy}")
    (copy / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json, so nothing says how its pictures are prepared" in refused(copy)
    assert "expected mean= and std= too" in refused(copy, "?size=32")
    assert "mean has 2 numbers" in refused(copy, "?mean=0.5,0.5&std=0.5,0.5")
    got = load_model(f"hf:{copy}?mean=0.5&std=0.5&size=32&resize=32x32")
    assert (got.input_shape, got.mean, got.std) == (want.input_shape, want.mean, want.std)
    assert got.preprocess is not None and got.preprocess.resize == (32, 32)
    x = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(got.oracle().answers(x), want.oracle().answers(x))
    with pytest.raises(BadInput, match="Unknown option 'backend'"):
        load_model(f"hf:{copy}?backend=pil")


def test_what_a_processor_does_besides_is_refused(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    kept = path.read_text()
    for change in (
        {"do_pad": True, "pad_size": {"height": 40, "width": 40}},
        {"size": {"max_height": 32, "max_width": 32}},
        {"image_std": [-0.5, -0.5, -0.5]},
    ):
        rewritten(path, lambda one, change=change: one.update(change))
        assert "?mean=0.5,0.5,0.5" in refused(copy)
        path.write_text(kept)


IMAGENET = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_normalize": True,
    "do_resize": True,
}
OLD: dict[str, tuple[dict[str, Any], Preprocess]] = {
    "vit": (
        {"image_processor_type": "ViTFeatureExtractor", "resample": 2, "size": 32},
        Preprocess((32, 32), None, "bilinear"),
    ),
    "swin": (
        {"feature_extractor_type": "ViTFeatureExtractor", "resample": 3, "size": 32},
        Preprocess((32, 32), None, "bicubic"),
    ),
    "resnet": (
        {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "resample": 3, "size": 64},
        Preprocess((73,), (64, 64), "bicubic", floored=True),
    ),
    "deit": (
        {
            "feature_extractor_type": "DeiTFeatureExtractor",
            "resample": 3,
            "size": 37,
            "crop_size": 32,
            "do_center_crop": True,
        },
        Preprocess((37, 37), (32, 32), "bicubic", floored=True),
    ),
    "beit": ({"size": 32}, Preprocess((32, 32), None, "bicubic")),
}


@pytest.mark.parametrize("kind", OLD)
def test_processors_as_older_releases_wrote_them(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path)
    facts, want = OLD[kind]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**IMAGENET, **facts}))
    model = load_model(f"hf:{tmp_path}")
    assert model.preprocess == want
    assert (model.mean, model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_folder_as_timm_writes_it(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    lite0(tmp_path)
    want = load_model(f"hf:{tmp_path}")
    config = json.loads((tmp_path / "config.json").read_text())
    kept = {name: config[name] for name in ("architecture", "num_classes", "pretrained_cfg")}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    state = load_file(tmp_path / "model.safetensors")
    plain = {name.removeprefix("timm_model."): value for name, value in state.items()}
    save_file(plain, tmp_path / "model.safetensors", {"format": "pt"})
    model = load_model(f"hf:{tmp_path}")
    x = torch.rand(2, 3, 224, 224)
    assert torch.equal(model.oracle().answers(x), want.oracle().answers(x))
    assert (model.classes, model.synsets, model.preprocess) == (want.classes, want.synsets, want.preprocess)


def test_grey_pictures(tmp_path: Path) -> None:
    own = make("vit", tmp_path / "m", num_channels=1)
    facts = {"image_mean": [0.1307], "image_std": [0.3081]}
    rewritten(tmp_path / "m" / "preprocessor_config.json", lambda one: one.update(facts))
    model = load_model(f"hf:{tmp_path / 'm'}")
    assert (model.input_shape, model.channels, model.mean, model.std) == ((1, SIDE, SIDE), 1, (0.1307,), (0.3081,))
    x = torch.rand(2, 1, SIDE, SIDE)
    torch.testing.assert_close(model.oracle().answers(x), logits_of(own, (x - 0.1307) / 0.3081))


# ---- digests


def test_digests_follow_weights_config_and_processor(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    digests = [load_model(f"hf:{copy}").digest]
    assert load_model(f"hf:{copy}").digest == digests[0]
    moved = Path(shutil.copytree(copy, copy.parent / "moved"))
    assert load_model(f"hf:{moved}").digest == digests[0]
    # two heads or four: the same weights and the same layers, but other answers
    rewritten(copy / "config.json", lambda one: one.update(num_attention_heads=4))
    digests.append(load_model(f"hf:{copy}").digest)
    rewritten(copy / "preprocessor_config.json", lambda one: one.update(resample=3))
    digests.append(load_model(f"hf:{copy}").digest)
    state = load_file(copy / "model.safetensors")
    state["classifier.bias"][0] += 1e-6
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    digests.append(load_model(f"hf:{copy}").digest)
    assert len(set(digests)) == len(digests)


# ---- ids


COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40


@pytest.fixture
def hub(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client keeps it: files by their content, linked from a folder for each commit."""
    cache = tmp_path / "cache"
    place = cache / "models--owner--name"
    for folder in ("blobs", f"snapshots/{COMMIT}", "refs"):
        (place / folder).mkdir(parents=True)
    for file in vit.iterdir():
        shutil.copy(file, place / "blobs" / file.name)
        (place / "snapshots" / COMMIT / file.name).symlink_to(f"../../blobs/{file.name}")
    (place / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def test_an_id_is_resolved_to_its_commit(hub: Path, vit: Path) -> None:
    want = load_model(f"hf:{vit}")
    for revision in ("", "@main", f"@{COMMIT}"):
        model = load_model(f"hf:owner/name{revision}")
        assert model.digest == want.digest
        assert any(f"owner/name is at commit {COMMIT}" in note for note in model.notes)
        moves = [note for note in model.notes if "can move" in note]
        assert bool(moves) == (revision != f"@{COMMIT}")
        assert all(f"hf:owner/name@{COMMIT}" in note for note in moves)


def test_ids_that_are_not_kept(hub: Path) -> None:
    for name in ("owner/other", f"owner/name@{OTHER}", "owner/name@v2"):
        with pytest.raises(Unavailable, match=r"could not be fetched from the Hugging Face hub.*hf download owner/"):
            load_model(f"hf:{name}")
    assert "There is no folder" in refused(Path("owner/name/more"))


def test_a_network_that_is_down_is_one_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match="could not be fetched") as told:
        load_model("hf:owner/other")
    assert "\n" not in str(told.value)
    # what is kept is used
    assert load_model("hf:owner/name").classes == NAMES


def test_a_folder_goes_before_an_id(hub: Path, vit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(vit, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert not any("commit" in note for note in load_model("hf:owner/name").notes)


# ---- Python


def test_attacks_and_evaluations_in_python(vit: Path) -> None:
    model: Classifier = load_model(f"hf:{vit}")
    x = torch.rand(12, 3, SIDE, SIDE)
    y = model.oracle().answers(x).argmax(1)
    found = assay.attack(assay.PGD(steps=5), model, x, y, assay.Linf("16/255"))
    assert float(found.success.float().mean()) > 0.5
    assert float((found.x_adv - x).abs().max()) <= 16 / 255 + 1e-6


def test_nothing_of_the_library_is_left_changed(vit: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    load_model(f"hf:{vit}")
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr().err == ""
