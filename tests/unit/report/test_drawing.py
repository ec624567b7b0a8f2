from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from assay.core.errors import BadInput
from assay.evaluation.run import Run
from assay.report import export as drawing
from assay.report import figures
from assay.report.charts import curve
from assay.report.groups import Group
from tests.support.fake_run import HOSTILE


@pytest.mark.parametrize(("format", "start"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_charts_are_written_in_each_format(run: Run, tmp_path: Path, format: str, start: bytes) -> None:
    written = figures(run, tmp_path / "figures", format)
    assert [path.name.split("-")[0] for path in written] == ["curve", "classes", "became", "curve", "became"]
    assert all(path.read_bytes().startswith(start) for path in written)


def test_an_unknown_format_is_refused_with_the_known_ones(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"svg, png, pdf, not 'jpg'.* Did you mean 'png'\?"):
        figures(run, tmp_path, "jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_still_chart_is_shapes_and_text_only(scenes: Group) -> None:
    svg = drawing.still(curve(scenes))
    assert len(ElementTree.fromstring(svg).findall(".//{*}path")) > 10
    assert "<img" not in svg
    assert HOSTILE in "".join(ElementTree.fromstring(drawing.still(named(scenes, HOSTILE))).itertext())


def named(group: Group, name: str) -> dict:  # type: ignore[type-arg]
    spec = curve(group)
    return {**spec, "title": name}


def test_a_chart_with_anything_else_has_no_still(scenes: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec: "<svg><image/></svg>")
    assert drawing.still(curve(scenes)) == ""
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec: "<svg><path onload='alert(1)'/></svg>")
    assert drawing.still(curve(scenes)) == ""


def test_the_script_can_interpret_expressions_and_reaches_for_no_network() -> None:
    script = drawing.javascript()
    assert "vegaEmbed" in script and "expressionInterpreter" in script
    assert "</script" not in script.lower()


def test_the_script_is_bundled_once_and_again_where_its_file_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    made = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: made.append(snippet) or f"bundle; {snippet}\n")
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    bundle = drawing.javascript.__wrapped__
    first = bundle()
    (kept,) = (tmp_path / "page").iterdir()
    assert bundle() == first == "bundle; window.vegaEmbed = vegaEmbed;\n" and len(made) == 1
    assert vl_convert.__version__ in kept.name
    whole = kept.read_bytes()
    for damaged in (whole[:-3], whole.replace(b"vega", b"evil"), b"\xff\xfe", b""):
        kept.write_bytes(damaged)
        assert bundle() == first
    assert len(made) == 5 and kept.read_bytes() == whole
    # where nothing can be kept, it is made each time
    monkeypatch.setenv("ASSAY_CACHE", str(kept))
    assert bundle() == bundle() == first and len(made) == 7
