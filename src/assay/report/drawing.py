"""Charts as files (SVG, PNG, PDF) and the scripts that draw them in the page."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from assay.core.errors import BadInput, did_you_mean
from assay.report import charts
from assay.report.breakdown import breakdown
from assay.report.gallery import slug
from assay.report.view import groups

if TYPE_CHECKING:
    from assay.evaluate.run_directory import Run

FORMATS = ("svg", "png", "pdf")
_STILL_WIDTH = 720
_PNG_SCALE = 2
_DRAWN = {"svg", "g", "path", "text", "tspan", "line", "rect", "circle", "defs", "clipPath", "title"}


def figures(run: Run, directory: str | Path, format: str = "svg") -> list[Path]:
    """Write every chart of the run's page as a file; return the paths.

    Raises `BadInput` for a format other than svg, png and pdf.
    """
    if format not in FORMATS:
        raise BadInput(f"Charts are written as {', '.join(FORMATS)}, not {format!r}.{did_you_mean(format, FORMATS)}")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, spec in _specs(run):
        path = folder / f"{name}.{format}"
        path.write_bytes(_drawn(spec, format))
        written.append(path)
    return written


def still(spec: dict[str, Any]) -> str:
    """Return a chart as SVG to stand inside a page; nothing where it holds more than shapes and text."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg({**spec, "width": _STILL_WIDTH})
    return svg if all(map(_harmless, ElementTree.fromstring(svg).iter())) else ""


def _harmless(element: ElementTree.Element) -> bool:
    names = {name.rpartition("}")[2] for name in element.attrib}
    acts = any(name.startswith("on") or name in ("style", "href") for name in names)
    return element.tag.rpartition("}")[2] in _DRAWN and not acts


@functools.cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that sets `vegaEmbed`."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def _specs(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, group in enumerate(groups(run), start=1):
        about = f"{place}-{slug(f'{group.model}-{group.data}', 60)}"
        yield f"curve-{about}", charts.curve(group, charts.IN_FILE)
        found = breakdown(run, group)
        if found is not None and found.has_shares:
            yield f"classes-{about}", charts.per_class(found, charts.IN_FILE)
        if found is not None and found.fits_a_grid:
            yield f"became-{about}", charts.confusion(found, charts.IN_FILE)


def _drawn(spec: dict[str, Any], format: str) -> bytes:
    import vl_convert

    if format == "svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    if format == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE))
    return bytes(vl_convert.vegalite_to_pdf(spec))
