"""The methods of certification, in one visible table: name -> how to make one, what it speaks of, its source."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from assay.attacks.options import Option, options_of_maker, read_options
from assay.certification.bounds.auto_lirpa import AutoLiRPA
from assay.certification.bounds.methods import CROWN, IBP
from assay.certification.certificate import Certificate, CertificateEntry
from assay.core.errors import BadInput, did_you_mean

_NETWORKS = "chains and residual graphs of convolution, linear, batch norm, average pooling, ReLU; no max pooling"

CERTIFICATES: dict[str, CertificateEntry] = {
    "ibp": CertificateEntry(
        IBP,
        "interval bounds, layer by layer",
        "Gowal et al. 2018",
        "1810.12715",
        ("linf", "l2", "l1"),
        _NETWORKS,
        bounds=True,
    ),
    "crown": CertificateEntry(
        CROWN,
        "linear bounds propagated backwards, where intervals leave an image open",
        "Zhang et al. 2018",
        "1811.00866",
        ("linf", "l2", "l1"),
        _NETWORKS,
        bounds=True,
    ),
    "auto-lirpa": CertificateEntry(
        AutoLiRPA,
        "the bounds of the library auto_LiRPA, where it is installed",
        "Xu et al. 2020",
        "2002.12920",
        ("linf", "l2", "l1"),
        "those that auto_LiRPA converts",
    ),
}
"""Every method of certification."""


def certificate_entry(name: str) -> CertificateEntry:
    """Return the line of a method. Raises `BadInput` for an unknown name."""
    if name not in CERTIFICATES:
        near = did_you_mean(name, CERTIFICATES)
        raise BadInput(f"Unknown certificate {name!r}.{near} There are: {', '.join(CERTIFICATES)}.")
    return CERTIFICATES[name]


@functools.cache
def certificate_options(name: str) -> Mapping[str, Option]:
    """Return the options of a method."""
    return options_of_maker(certificate_entry(name).make)


def make_certificate(name: str, options: Mapping[str, Any]) -> Certificate:
    """Return a method with options as written. Raises `BadInput` for an unknown name, option or value."""
    known = certificate_options(name)
    read = {}
    for option, value in options.items():
        if option not in known:
            near = did_you_mean(option, known)
            has = f"Its options: {', '.join(known)}." if known else "It has none."
            raise BadInput(f"Certificate {name!r} has no option {option!r}.{near} {has}")
        read[option] = known[option].read(f"Certificate {name!r}: {option}", value)
    made: Certificate = certificate_entry(name).make(**read)
    return made


def written_certificate(written: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of `crown:alpha_steps=20`. Raises `BadInput` for an unknown name or option."""
    name, _, rest = written.strip().partition(":")
    return name, read_options(rest, certificate_options(name), written.strip())
