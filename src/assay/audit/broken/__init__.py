"""Broken defences by name, each of which looks robust to a gradient attack, and none of which is.

They are what an audit must not be taken in by, and what to learn the signs from. By name:
`assay.audit.zoo.mnist:rounding` and `assay.audit.zoo.lite0:rounding`; around any other classifier: `wrap` of
`assay.audit.zoo`.
"""

from assay.audit.broken.table import BROKEN, BrokenDefense

__all__ = ["BROKEN", "BrokenDefense"]
