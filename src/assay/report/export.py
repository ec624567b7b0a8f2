"""Charts as files (SVG, PNG, PDF) and the scripts that draw them in the page."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from assay.core.errors import BadInput, did_you_mean
from assay.files import DiskError, cache_dir, write_atomically
from assay.report import brackets, charts, corruptions, pairs
from assay.report.breakdown import breakdown
from assay.report.gallery import slug
from assay.report.groups import groups
from assay.report.theme import IN_FILE, Spec

if TYPE_CHECKING:
    from assay.evaluation.run import Run

FORMATS = ("svg", "png", "pdf")
_SETS = "window.vegaEmbed = vegaEmbed;"
_STILL_WIDTH = 720
_PNG_SCALE = 2
_DRAWN = {"svg", "g", "path", "text", "tspan", "line", "rect", "circle", "defs", "clipPath", "title"}
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


def figures(run: Run, directory: str | Path, format: str = "svg") -> list[Path]:
    """Write every chart of the run's page as a file; return the paths.

    Raises `BadInput` for a format other than svg, png and pdf.
    """
    return write_charts(_specs(run), directory, format)


def write_charts(specs: Iterable[tuple[str, Spec]], directory: str | Path, format: str) -> list[Path]:
    """Write charts, each a file name without its ending and a specification; return the paths.

    Raises `BadInput` for a format other than svg, png and pdf.
    """
    if format not in FORMATS:
        raise BadInput(f"Charts are written as {', '.join(FORMATS)}, not {format!r}.{did_you_mean(format, FORMATS)}")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, spec in specs:
        path = folder / f"{name}.{format}"
        path.write_bytes(_drawn(spec, format))
        written.append(path)
    return written


def still(spec: Spec) -> str:
    """Return a chart as SVG to stand inside a page; nothing where it holds more than shapes, text and pictures.

    Charts that take the width of their container are drawn at a common one.
    """
    import vl_convert

    wide = {"width": _STILL_WIDTH} if spec.get("width") == "container" else {}
    svg: str = vl_convert.vegalite_to_svg({**spec, **wide})
    return svg if all(map(_harmless, ElementTree.fromstring(svg).iter())) else ""


def _harmless(element: ElementTree.Element) -> bool:
    tag = element.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    if any(name.startswith("on") or name == "style" for name in attributes):
        return False
    # both spellings, href and xlink:href, must hold the picture itself
    links = [value for name, value in element.attrib.items() if name.rpartition("}")[2] == "href"]
    if tag == "image":
        return bool(links) and all(map(_PICTURE.fullmatch, links))
    return tag in _DRAWN and not links


@functools.cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that sets `vegaEmbed`.

    Bundling takes half as long as everything else in a page, and gives the same for the same release of vl-convert: it
    is done once and kept in the cache, with its digest, without which it is made again.
    """
    import vl_convert

    kept = cache_dir() / "page" / f"vega-{importlib.metadata.version('vl-convert-python')}.js"
    digest, _, bundle = _text_of(kept).partition("\n")
    if bundle and digest == _digest(bundle):
        return bundle
    bundle = str(vl_convert.javascript_bundle(_SETS))
    with contextlib.suppress(DiskError):
        write_atomically(kept, f"{_digest(bundle)}\n{bundle}".encode())
    return bundle


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _digest(text: str) -> str:
    # of what was asked as well: another snippet makes another bundle
    return hashlib.sha256(f"{_SETS}{text}".encode()).hexdigest()


def _specs(run: Run) -> Iterator[tuple[str, Spec]]:
    for place, group in enumerate(groups(run), start=1):
        about = f"{place}-{slug(f'{group.model}-{group.data}', 60)}"
        yield f"curve-{about}", charts.curve(group, IN_FILE)
        found = breakdown(run, group)
        if found is not None and found.has_shares:
            yield f"classes-{about}", charts.per_class(found, IN_FILE)
        if found is not None and found.fits_a_grid:
            yield f"became-{about}", charts.confusion(found, IN_FILE)
    for place, bracket in enumerate(run.brackets(), start=1):
        yield f"bracket-{place}-{slug(f'{bracket.model}-{bracket.data}', 60)}", brackets.curve(bracket, IN_FILE)
    for place, pair in enumerate(run.pairs(), start=1):
        yield f"pair-{place}-{slug(f'{pair.model}-{pair.judge}', 60)}", pairs.curve(pair, IN_FILE)
    for place, table in enumerate(run.corruptions(), start=1):
        yield f"corruptions-{place}-{slug(f'{table.model}-{table.data}', 60)}", corruptions.heat_map(table, IN_FILE)


def _drawn(spec: Spec, format: str) -> bytes:
    import vl_convert

    if format == "svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    if format == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE))
    return bytes(vl_convert.vegalite_to_pdf(spec))
