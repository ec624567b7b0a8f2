"""How a study asks for certificates: `certify: first` before the attacks, methods by name beside them, or `off`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from assay.certification import CERTIFICATES, certificate_options, make_certificate, written_certificate
from assay.core.errors import BadInput
from assay.defenses.chain import split_spec
from assay.evaluation.study.errors import Misplaced

AUTO, FIRST, OFF = "auto", "first", "off"
_WHEN = (AUTO, FIRST, OFF)


class CertificateSpec(BaseModel):
    """A method of certification by its name in the table, with the options that differ from its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: str
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known(self) -> CertificateSpec:
        make_certificate(self.certificate, self.options)
        known = certificate_options(self.certificate)
        given = {name: self.options[name] for name in known if name in self.options}
        given = {name: value for name, value in given.items() if value != known[name].default}
        object.__setattr__(self, "options", given)
        return self

    @property
    def label(self) -> str:
        """The certificate in the records: `crown`, `smoothing(votes=1000)`."""
        inside = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.certificate}({inside})" if inside else self.certificate

    @property
    def written(self) -> str:
        """The certificate as a study writes it."""
        inside = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.certificate}:{inside}" if inside else self.certificate


class CertifySpec(BaseModel):
    """When bounds go before attacks, and which certificates are measured beside them.

    `before`: images that a bound proves are not attacked: "first" always, "off" never, "auto" where that is worth its
    passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Literal["auto", "first", "off"] = "auto"
    methods: tuple[CertificateSpec, ...] = ()

    def plain(self) -> list[str]:
        """Return the plain values that are read back to an equal spec."""
        return [self.before, *(one.written for one in self.methods)]


def lifted(value: Any) -> Any:
    """Read `first`, `crown:grade=real`, or a list of such, as a spec; methods alone put nothing before the attacks."""
    if value is False:
        value = OFF  # an unquoted off is a truth value in YAML
    if isinstance(value, CertifySpec) or (isinstance(value, Mapping) and "certificate" not in value):
        return value
    parts = value if isinstance(value, (list, tuple)) else [value]
    when = [one for one in parts if one in _WHEN]
    if len(when) > 1:
        raise BadInput(f"certify says {' and '.join(when)}; expected one of {', '.join(_WHEN)}.")
    methods = [_method(place, one) for place, one in enumerate(parts) if one not in _WHEN]
    return {"before": when[0] if when else OFF if methods else AUTO, "methods": methods}


def _method(place: int, value: Any) -> Any:
    if isinstance(value, CertificateSpec):
        return value
    try:
        if isinstance(value, str):
            name, options = written_certificate(value)
        elif isinstance(value, Mapping) and isinstance(value.get("certificate"), str):
            name, options = value["certificate"], {key: one for key, one in value.items() if key != "certificate"}
        else:
            raise BadInput(f"{value!r} is no certificate; expected a name, such as crown.")
        make_certificate(name, options)
    except BadInput as error:
        raise Misplaced((place,), f"{error} Or write first, auto, or off.") from error
    return {"certificate": name, "options": options}


Certify = Annotated[
    CertifySpec,
    BeforeValidator(lifted, json_schema_input_type=str | list[str] | dict[str, Any] | Literal[False]),
    Field(
        description=f"first, auto or off: whether what a bound proves is not attacked (auto); or certificates beside "
        f"the attacks, or alone: {', '.join(CERTIFICATES)}."
    ),
]
"""The key `certify` of a study."""


class UsualCertificate(NamedTuple):
    """What fits a model: the method, the norm that it speaks of, and the grid of the images."""

    method: str
    norm: str
    grid: int | None


_BY_DEFENSE = {
    "smoothed": UsualCertificate("smoothing-sequential", "l2", 255),
    "double-masking": UsualCertificate("double-masking", "patch", None),
}


def usual_certificate(spec: str) -> UsualCertificate:
    """Return what certifies a model: what its outermost defence is for, else bounds. Raises `BadInput`."""
    steps = split_spec(spec)[1]
    return _BY_DEFENSE.get(steps[0].name if steps else "", UsualCertificate("crown", "linf", None))
