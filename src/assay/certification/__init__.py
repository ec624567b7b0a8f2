"""Certificates: what is proved of a model's answers, as a bound from below where attacks bound from above."""

from assay.certification.certificate import ABSTAINED, Certificate, CertificateEntry, Certificates
from assay.certification.table import (
    CERTIFICATES,
    certificate_entry,
    certificate_options,
    make_certificate,
    written_certificate,
)

__all__ = [
    "ABSTAINED",
    "CERTIFICATES",
    "Certificate",
    "CertificateEntry",
    "Certificates",
    "certificate_entry",
    "certificate_options",
    "make_certificate",
    "written_certificate",
]
