"""Properties and answers of the verification competition: what is read, what is refused, and which point is judged."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput
from benchmarks.vnnlib import SAFE, UNKNOWN, UNSAFE, content, read_instances, read_property

# a ball of .1 around (.5, .05), cut at 0
BOX = """
; a comment with (brackets
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (<= X_0 0.6)) (assert (>= X_0 0.4))
(assert (<= X_1 0.15))
(assert (>= X_1 0.0))
"""
OTHERS = "(assert (or (and (>= Y_0 Y_1)) (and (<= Y_1 Y_2))))"


def test_a_property_is_a_box_and_the_classes_that_may_not_reach_the_label() -> None:
    asked = read_property(BOX + OTHERS)
    assert (asked.label, asked.others) == (1, (0, 2))
    assert asked.lower.tolist() == [0.4, 0.0] and asked.upper.tolist() == [0.6, 0.15]
    x, eps = asked.ball()
    assert eps == pytest.approx(0.1)
    assert x.tolist() == pytest.approx([0.5, 0.05])
    assert read_property(BOX + "(assert (>= Y_2 Y_0))").others == (2,)


def test_the_point_that_is_judged_lies_in_the_box_in_float32() -> None:
    asked = read_property(BOX + OTHERS)
    inside = asked.nearest(torch.tensor([9.0, -9.0]))
    # float32 holds .6 only as a number above it
    assert float(torch.tensor(0.6).double()) > 0.6
    assert bool((inside.double() <= asked.upper).all() and (inside.double() >= asked.lower).all())
    assert inside.tolist() == pytest.approx([0.6, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOX + "(assert (>= Y_0 0.5))", "comparison of two Y"),
        (BOX + "(assert (>= Y_0 Y_1)) (assert (>= Y_2 Y_1))", "as well"),
        (BOX + "(assert (or (and (>= Y_0 Y_1)) (and (>= Y_1 Y_2))))", "expected one, the label"),
        (BOX + "(assert (or (and (>= Y_0 Y_1) (>= Y_2 Y_1))))", "comparison of two Y"),
        (BOX.replace("(<= X_1 0.15)", "(<= X_1 inf)") + OTHERS, "without bounds"),
        (BOX + OTHERS + ")", "without its"),
        (BOX + "(check-sat)" + OTHERS, "check-sat"),
    ],
)
def test_other_questions_are_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_property(text)


def test_a_box_that_is_no_ball_is_refused() -> None:
    with pytest.raises(BadInput, match=r"X_1 from 0\.01 to 0\.15.*radius of 0\.1"):
        read_property(BOX.replace("X_1 0.0", "X_1 0.01") + OTHERS).ball()


def test_answers_of_several_verifiers_are_joined_and_may_not_contradict(tmp_path: Path) -> None:
    lines = [f"onnx/net.onnx,vnnlib/p{i}.vnnlib,60" for i in range(3)]
    (tmp_path / "instances.csv").write_text("\n".join(lines))
    own = "network,property,answer\nonnx/net.onnx,vnnlib/p0.vnnlib,safe\nonnx/net.onnx,vnnlib/p2.vnnlib,unknown\n"
    (tmp_path / "answers.csv").write_text(own)
    published = (
        "b,./b/onnx/net.onnx,./b/vnnlib/p1.vnnlib,1.5,sat,2.5\nb,./b/onnx/net.onnx,./b/vnnlib/p2.vnnlib,1,timeout,9\n"
    )
    (tmp_path / "answers-other.csv").write_text(published)
    assert [one.answer for one in read_instances(tmp_path)] == [SAFE, UNSAFE, UNKNOWN]
    (tmp_path / "answers-other.csv").write_text(published.replace("p1", "p0"))
    with pytest.raises(BadInput, match="the opposite"):
        read_instances(tmp_path)
    with pytest.raises(BadInput, match=r"instances\.csv"):
        read_instances(tmp_path / "elsewhere")


def test_packed_files_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(b"text"))
    assert content(tmp_path / "p.vnnlib") == b"text"
    with pytest.raises(BadInput, match="not there"):
        content(tmp_path / "q.vnnlib")
