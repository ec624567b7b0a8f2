from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import assay
from assay.attacks import ATTACKS, build
from assay.core.errors import BadInput
from assay.models import Classifier
from assay.playground import menu, pasting, same, shown
from assay.playground.asked import SAMPLE, Ask
from assay.playground.attacking import run
from assay.playground.watched import Curve, OverLimit, Stopped

Json = dict[str, Any]


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 4)).eval()
    return dataclasses.replace(assay.load_model(net), input_shape=(1, 8, 8))


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(3))


def events_of(ask: Ask, model: Classifier, image: Tensor) -> list[Json]:
    told: list[Json] = []
    run(ask, model, image, told.append, lambda: False)
    # what is told goes over a line as JSON, which has no NaN
    return [json.loads(json.dumps(one, allow_nan=False)) for one in told]


def array(done: Json, shape: tuple[int, ...] = (1, 8, 8)) -> np.ndarray:
    return np.frombuffer(base64.b64decode(done["array"]), "<f4").reshape(shape)


def few(name: str) -> Json:
    """Return options that make an attack quick."""
    known = ATTACKS[name].all_options
    small = {"steps": 6, "queries": 60, "generations": 3, "rounds": 2, "restarts": 1, "directions": 10}
    chosen = {option: value for option, value in small.items() if option in known}
    if name in ("nes", "spsa"):
        chosen |= {"pairs": 3}
    if name in ("one-pixel", "attention-de"):
        chosen |= {"population": 4}
    return chosen


NAMES = [one["name"] for one in menu.attacks()]


@pytest.mark.parametrize("name", NAMES)
def test_points_are_the_passes_that_the_attack_counts_and_the_array_is_its_own(
    tiny: Classifier, image: Tensor, name: str
) -> None:
    norm = next(norm for norm in menu.NORMS if norm in ATTACKS[name].norms)
    eps = {"linf": "0.1", "l2": "0.5", "l1": "2", "l0": "4"}[norm]
    options = few(name)
    told = events_of(Ask("tiny", name, norm, eps, options=options), tiny, image)
    assert [one["event"] for one in told if one["event"] != "point"] == ["clean", "kept", "done"]
    done, points = told[-1], [one for one in told if one["event"] == "point"]
    x, y = image[None], torch.tensor([told[0]["top"][0]["class"]])
    threat = {"linf": assay.Linf, "l2": assay.L2, "l1": assay.L1, "l0": assay.L0}[norm](eps)
    (bare,) = assay.sweep(build(name, **options), tiny, x, y, [threat], question="worst_case", ids=[SAMPLE], seed=0)
    assert (done["forwards"], done["backwards"]) == (int(bare.forwards), int(bare.backwards))
    assert done["success"] == bool(bare.success)
    assert array(done).tobytes() == bare.x_adv[0].numpy().tobytes()
    passes = [one["pass"] for one in points]
    assert passes == sorted(passes)
    assert passes[-1] == done["forwards"]


def test_the_margin_is_that_of_the_true_class_and_ends_below_nothing_where_it_broke(
    tiny: Classifier, image: Tensor
) -> None:
    told = events_of(Ask("tiny", "fgsm", "linf", "1.0"), tiny, image)
    logits = tiny.module(image[None])[0].detach()
    top = logits.topk(2).values
    first = next(one for one in told if one["event"] == "point")
    assert first["margin"] == pytest.approx(float(top[0] - top[1]), rel=1e-5)
    assert told[0]["margin"] == pytest.approx(first["margin"], rel=1e-5)
    assert told[-1]["success"] == (told[-1]["margin"] < 0)


def test_a_class_as_the_goal_is_reached_below_nothing(tiny: Classifier, image: Tensor) -> None:
    target = int(tiny.module(image[None])[0].argsort()[-2])
    done = events_of(Ask("tiny", "pgd", "linf", "1.0", goal=target), tiny, image)[-1]
    assert done["success"]
    assert done["top"][0]["class"] == target
    assert done["margin"] < 0


def test_what_was_saved_is_read_back_and_asked_again(tiny: Classifier, image: Tensor) -> None:
    told = events_of(Ask("tiny", "deepfool", "l2", "9"), tiny, image)
    kept, done = told[-2], told[-1]
    with Image.open(io.BytesIO(base64.b64decode(kept["png"]))) as picture:
        saved = torch.from_numpy(np.asarray(picture).copy())[None, None].float() / 255
    answer = int(tiny.module(saved).argmax())
    assert done["checked"]["saved_breaks"] == (answer != told[0]["top"][0]["class"])
    assert kept["checked"] == done["checked"]["note"]


@pytest.mark.parametrize(("eps", "note"), [("76.5/255", "outside the budget"), ("77/255", "")])
def test_a_saved_image_that_rounding_took_out_of_the_budget_is_said(tiny: Classifier, eps: str, note: str) -> None:
    grey = torch.full((1, 8, 8), 101 / 255)
    done = events_of(Ask("tiny", "fgsm", "linf", eps, options={"objective": "margin"}), tiny, grey)[-1]
    assert done["success"] and done["checked"]["saved_breaks"]
    assert done["checked"]["note"].startswith("still broken")
    assert ("outside the budget" in done["checked"]["note"]) == bool(note)
    assert not note or "linf 0.302" in done["checked"]["note"]


def test_the_change_is_magnified_by_what_is_said() -> None:
    image, result = torch.full((1, 2, 2), 0.5), torch.tensor([[[0.54, 0.5], [0.46, 0.5]]])
    magnified, factor = shown.change(result, image)
    assert factor == 10
    assert magnified.flatten().tolist() == pytest.approx([0.9, 0.5, 0.1, 0.5], abs=1e-5)


def test_smallest_is_found_by_bisection_and_costs_the_run_nothing(tiny: Classifier, image: Tensor) -> None:
    plain = events_of(Ask("tiny", "pgd", "linf", "0.9", options={"steps": 5}), tiny, image)[-1]
    told = events_of(Ask("tiny", "pgd", "linf", "0.9", options={"steps": 5}, smallest=True), tiny, image)[-1]
    assert (told["forwards"], told["backwards"]) == (plain["forwards"], plain["backwards"])
    found = told["smallest"]
    assert 0 < found["value"] <= plain["size"]
    assert "passes besides" in found["how"]
    budget, _, below = found["eps"].partition("/")
    assert float(budget) / float(below) >= found["value"]


def test_smallest_of_an_attack_by_size_is_its_own_run(tiny: Classifier, image: Tensor) -> None:
    tight = Ask("tiny", "fmn", "l2", "0.0001", options={"steps": 30}, smallest=True)
    done = events_of(tight, tiny, image)[-1]
    assert not done["success"]
    assert done["smallest"]["value"] > 0.0001
    y = tiny.module(image[None]).argmax(1)
    bare = assay.attack(build("fmn", steps=30), tiny, image[None], y, assay.L2(float("inf")), ids=[SAMPLE])
    assert done["smallest"]["value"] == pytest.approx(float(bare.size), rel=1e-5)


def test_what_is_proved_lies_below_what_breaks(tiny: Classifier, image: Tensor) -> None:
    done = events_of(Ask("tiny", "pgd", "linf", "0.9", smallest=True), tiny, image)[-1]
    assert 0 < done["certified"]["radius"] < done["smallest"]["value"]
    within = f"{done['certified']['radius'] * 0.9:.6f}"
    proved = events_of(Ask("tiny", "pgd", "linf", within, smallest=True), tiny, image)[-1]
    assert proved["verdict"]["state"] == "proved"


def test_a_network_that_nothing_moves_is_proved_at_the_budget_asked_for(image: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 4)).eval()
    with torch.no_grad():
        net[3].weight.zero_()
        net[3].bias.copy_(torch.arange(4.0))
    stuck = dataclasses.replace(assay.load_model(net), input_shape=(1, 8, 8))
    done = events_of(Ask("stuck", "pgd", "linf", "0.3", smallest=True), stuck, image)[-1]
    assert done["smallest"]["value"] is None
    assert done["certified"]["radius"] == 0.3
    assert done["verdict"]["state"] == "proved"


def test_where_there_is_no_certificate_the_reason_is_said(tiny: Classifier, image: Tensor) -> None:
    done = events_of(Ask("tiny", "sigma-zero", "l0", "5", smallest=True), tiny, image)[-1]
    assert done["certified"]["radius"] is None
    assert "l0" in done["certified"]["how"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"attack": "pgdd"}, "Did you mean 'pgd'"),
        ({"norm": "l0"}, "works in linf"),
        ({"norm": "patch"}, "works in linf"),
        ({"eps": "0"}, "nothing may change"),
        ({"eps": "8"}, "8/255"),
        ({"eps": "much"}, "is not a budget"),
        ({"options": {"step": 3}}, "no option 'step'"),
        ({"options": {"steps": 0}}, "steps"),
        ({"options": {"question": "why"}}, "question"),
        ({"goal": 9}, "4 classes"),
        ({"attack": "autoattack", "goal": 1}, "no target"),
    ],
)
def test_slips_are_sentences(tiny: Classifier, image: Tensor, changed: Json, said: str) -> None:
    ask = Ask(**{"model": "tiny", "attack": "pgd", "norm": "linf", "eps": "0.1", **changed})
    with pytest.raises(BadInput, match=re.escape(said)):
        run(ask, tiny, image, lambda _: None, lambda: False)


def test_the_answer_itself_is_no_goal(tiny: Classifier, image: Tensor) -> None:
    own = int(tiny.module(image[None]).argmax())
    with pytest.raises(BadInput, match="says already"):
        run(Ask("tiny", "pgd", "linf", "0.1", goal=own), tiny, image, lambda _: None, lambda: False)


@pytest.mark.parametrize(("goal", "said"), [(None, "says already"), (9, "the model has 4 classes, 0 to 3")])
def test_a_patch_has_no_goal_that_an_attack_may_not_have(
    tiny: Classifier, image: Tensor, goal: int | None, said: str
) -> None:
    own = int(tiny.module(image[None]).argmax())
    ask = Ask("tiny", "pgd", "linf", "0.1", goal=own if goal is None else goal)
    placed = pasting.Placed(shown.png(image), 0.5, 0.5, 0.1)
    with pytest.raises(BadInput, match=said):
        pasting.run(ask, tiny, image, placed, lambda _: None)


def test_a_patch_after_which_the_model_has_no_scores_is_told(image: Tensor) -> None:
    class Dark(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where((x.amax((1, 2, 3)) == 1)[:, None], torch.nan, x.flatten(1)[:, :4])

    dark = dataclasses.replace(assay.load_model(Dark()), input_shape=(1, 8, 8))
    told: list[Json] = []
    placed = pasting.Placed(shown.png(torch.ones(1, 2, 2)), 0.5, 0.5, 1.0)
    pasting.run(Ask("dark", "pgd", "linf", "0.1"), dark, image, placed, told.append)
    json.dumps(told, allow_nan=False)
    assert told[-1]["margin"] is None


def test_a_label_that_the_model_misses_is_said(tiny: Classifier, image: Tensor) -> None:
    own = int(tiny.module(image[None]).argmax())
    right = events_of(Ask("tiny", "fgsm", "linf", "0.1", label=own), tiny, image)
    wrong = events_of(Ask("tiny", "fgsm", "linf", "0.1", label=(own + 1) % 4), tiny, image)
    assert (right[0]["right"], wrong[0]["right"]) == (True, False)
    assert "wrong about this image without any change" in wrong[-1]["verdict"]["text"]
    assert "without any change" not in right[-1]["verdict"]["text"]
    searched = events_of(Ask("tiny", "fgsm", "linf", "0.1", label=(own + 1) % 4, smallest=True), tiny, image)
    assert "wrong about this image without any change" in searched[-1]["verdict"]["text"]


def test_a_search_for_the_smallest_change_that_takes_too_long_ends_and_says_so(
    tiny: Classifier, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.playground import bounds

    monkeypatch.setattr(bounds, "SECONDS", 0.0)
    done = events_of(Ask("tiny", "pgd", "linf", "0.9", smallest=True), tiny, image)[-1]
    # what the run itself has found stands
    assert done["smallest"]["value"] == pytest.approx(done["size"])
    assert "ended at its limit" in done["smallest"]["how"]
    assert done["certified"]["radius"] is None


def test_a_run_that_has_spent_its_passes_or_is_stopped_ends(tiny: Classifier, image: Tensor) -> None:
    ask = Ask("tiny", "pgd", "linf", "0.00001", options={"steps": 500}, passes=40)
    with pytest.raises(OverLimit):
        run(ask, tiny, image, lambda _: None, lambda: False)
    asked = iter(range(1000))
    with pytest.raises(Stopped):
        run(dataclasses.replace(ask, passes=10_000), tiny, image, lambda _: None, lambda: next(asked) > 10)
    assert next(asked) < 14


def test_long_curves_are_thinned_and_keep_their_last_point(tiny: Classifier, image: Tensor) -> None:
    told = events_of(Ask("tiny", "pgd", "linf", "0.00001", options={"steps": 900}), tiny, image)
    points = [one for one in told if one["event"] == "point"]
    assert 200 < len(points) < 800
    assert points[-1]["pass"] == told[-1]["forwards"] == 901


def test_a_model_that_refuses_the_image_is_not_attacked(tiny: Classifier, image: Tensor) -> None:
    refusing = assay.defend(tiny, "max-softmax:threshold=-0.9999")
    with pytest.raises(BadInput, match="refuses the image"):
        run(Ask("tiny", "pgd", "linf", "0.1"), refusing, image, lambda _: None, lambda: False)


def test_a_curve_tells_nothing_of_scores_without_an_order(tiny: Classifier) -> None:
    told: list[Json] = []
    curve = Curve(assay.Untargeted(torch.tensor([0])), told.extend, lambda: False, 100)
    with tiny.held():
        seen = tiny.oracle().look(torch.rand(1, 1, 8, 8), assay.Untargeted(torch.tensor([0])), *_look())
    for logits in (seen.logits, torch.full((1, 4), torch.nan), seen.logits):
        gap = seen._replace(logits=logits)
        curve(gap)
    curve.flush()
    assert [one["pass"] for one in told] == [2]


def _look() -> tuple[Any, ...]:
    from assay.core.draws import Draws
    from assay.core.objective import margin
    from assay.core.oracle import Access

    return margin, Access.SCORES, Draws.of(["a"], 0)


@pytest.mark.parametrize(
    ("attack", "norm", "eps", "options"),
    [
        ("pgd", "linf", "0.2", {"steps": 7}),
        pytest.param("fmn", "l2", "2.0", {"steps": 20, "question": "as_attacked"}, marks=pytest.mark.slow),
        pytest.param("square", "linf", "0.1", {"queries": 50}, marks=pytest.mark.slow),
    ],
)
def test_the_shell_and_python_give_the_same_array(
    tmp_path: Path, attack: str, norm: str, eps: str, options: Json
) -> None:
    model = assay.load_model("zoo:mnist-certified")
    image = torch.zeros(1, 28, 28)
    image[:, 4:24, 12:16] = 1
    told = events_of(Ask("zoo:mnist-certified", attack, norm, eps, options=options), model, image)
    kept, done = told[-2:]
    (tmp_path / "image.npz").write_bytes(base64.b64decode(kept["npz"]))
    (tmp_path / "same.py").write_text(done["python"] + '\nimport numpy\nnumpy.save("python.npy", x_adv.numpy())\n')
    subprocess.run([sys.executable, "same.py"], cwd=tmp_path, check=True)
    # the first line fetches image.npz from a server, which is not there
    lines = done["shell"].replace(same.RUN, "x").replace("assay ", f"{sys.executable} -m assay.cli ").splitlines()[1:]
    for line in lines:
        subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True, capture_output=True)
    (written,) = tmp_path.glob("runs/play-x-images/*/*/*.npy")
    expected = array(done, (1, 28, 28)).tobytes()
    assert np.load(tmp_path / "python.npy").tobytes() == expected
    assert np.load(written)[0].tobytes() == expected
    assert np.load(written).shape == (1, 1, 28, 28)


def test_a_model_that_gives_labels_alone_is_asked_by_what_needs_no_more(tiny: Classifier, image: Tensor) -> None:
    labels = assay.load_model(tiny.module, access="labels")
    events = events_of(Ask("tiny", "hop-skip-jump", "l2", "3", options={"queries": 80}), labels, image)
    assert events[-1]["backwards"] == 0
    assert "labels alone" in events[-1]["verdict"]["text"] or events[-1]["success"]
    with pytest.raises(assay.AssayError, match="gradient"):
        run(Ask("tiny", "pgd", "linf", "0.1"), labels, image, lambda _: None, lambda: False)


class Sure(nn.Module):
    """Scores of which all but one are -inf; a bright image has none at all."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1).sum(1, keepdim=True)
        logits = torch.cat([first, torch.full_like(first, -torch.inf)], 1)
        return torch.where(first > 60, torch.nan, logits)


def test_margins_without_end_are_told_as_none(image: Tensor) -> None:
    model = dataclasses.replace(assay.load_model(Sure().eval()), input_shape=(1, 8, 8))
    clean, *_, done = events_of(Ask("sure", "square", "linf", "0.01", options={"queries": 5}), model, image)
    assert (clean["margin"], done["margin"], done["success"]) == (None, None, False)


def pasted(ask: Ask, model: Classifier, image: Tensor, size: float = 0.2) -> list[Json]:
    told: list[Json] = []
    white = shown.png(torch.ones(1, 8, 8))
    pasting.run(ask, model, image, pasting.Placed(white, 0.5, 0.5, size), told.append)
    return [json.loads(json.dumps(one, allow_nan=False)) for one in told]


def test_a_patch_breaks_nothing_by_the_answer_that_was_there(tiny: Classifier, image: Tensor) -> None:
    own = int(tiny.module(image[None]).argmax())
    for goal, why in ((own, "says already"), (99, "0 to 3"), (-1, "0 to 3"), (10**30, "0 to 3")):
        with pytest.raises(BadInput, match=why):
            pasted(Ask("tiny", "pgd", "linf", "0.1", goal=goal), tiny, image)
    assert pasted(Ask("tiny", "pgd", "linf", "0.1", goal=(own + 1) % 4), tiny, image)[-1]["event"] == "done"


def test_a_patch_after_which_there_are_no_scores_is_not_judged(image: Tensor) -> None:
    model = dataclasses.replace(assay.load_model(Sure().eval()), input_shape=(1, 8, 8))
    last = pasted(Ask("sure", "pgd", "linf", "0.1"), model, image, size=1.0)[-1]
    assert (last["success"], last["margin"], last["verdict"]["state"]) == (False, None, "not judged")


class Blinding(nn.Module):
    """Gives no number to who wants gradients of anything but an even grey."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.last = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(x.flatten(1))
        return logits * torch.nan if x.requires_grad else logits


def test_a_model_without_scores_on_the_way_is_not_said_to_stand(image: Tensor) -> None:
    model = dataclasses.replace(assay.load_model(Blinding().eval()), input_shape=(1, 8, 8))
    done = events_of(Ask("blinding", "pgd", "linf", "0.01", options={"steps": 4}), model, image)[-1]
    assert not done["success"]
    assert done["verdict"]["state"] == "not judged"
    assert "NaN or infinite" in done["verdict"]["text"]


def test_a_random_model_is_attacked_as_the_call_does_it(tiny: Classifier, image: Tensor) -> None:
    noisy = assay.defend(tiny, "gaussian-noise:sigma=0.05")
    done = events_of(Ask("tiny", "pgd", "linf", "0.3", options={"steps": 4}), noisy, image)[-1]
    y = torch.tensor([int(tiny.module(image[None]).argmax())])
    bare = assay.attack(build("pgd", steps=4), noisy, image[None], y, assay.Linf("0.3"), keep="first", ids=[SAMPLE])
    assert array(done).tobytes() == bare.x_adv[0].numpy().tobytes()
    assert done["forwards"] == int(bare.forwards)


def test_models_are_put_on_the_shelf_whatever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.playground.shelf import Shelf
    from tests.support.tiny_onnx import write_light

    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    monkeypatch.chdir(tmp_path)
    write_light(tmp_path / "light.onnx", (1, 8, 8))
    (tmp_path / "my.py").write_text("import sys\n\ndef leaves():\n    sys.exit(3)\n")
    shelf = Shelf(["onnx:light.onnx", "my.py:leaves", "zoo:mnist-nothing"])
    light, leaves, nothing = (shelf.load(name) for name in shelf.names)
    assert light["ready"]
    assert light["failed"] is None
    assert "SystemExit: 3" in leaves["failed"]
    assert "Did you mean" in nothing["failed"] or "There are" in nothing["failed"]
    x = torch.rand(light["shape"], generator=torch.Generator().manual_seed(0))
    assert events_of(Ask("onnx:light.onnx", "square", "linf", "0.2", options={"queries": 30}),
                     shelf.model("onnx:light.onnx"), x)[-1]["event"] == "done"  # fmt: skip
    with pytest.raises(BadInput, match="There is no model"):
        shelf.model("zoo:mnist-nothing")
    with pytest.raises(BadInput, match="There is no defence"):
        shelf.model("onnx:light.onnx", "median:size=99")


def test_an_endpoint_is_no_model_of_the_playground(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.playground import shelf

    monkeypatch.setattr(Classifier, "endpoints", property(lambda _: ["one"]))
    told = shelf.Shelf(["zoo:mnist-pgd"]).load("zoo:mnist-pgd")
    assert not told["ready"]
    assert "is an endpoint" in told["failed"]
