"""A zoo of broken defences: each looks robust to a gradient attack, and none of them is.

They are what an audit must not be taken in by, and what to learn the signs from. By name:
`assay.audit.zoo.mnist:rounding` and `assay.audit.zoo.lite0:rounding`; around any other classifier: `wrap`.
"""

from assay.audit.zoo.wrapping import wrap
from assay.defenses.table import BROKEN, BrokenDefense

__all__ = ["BROKEN", "BrokenDefense", "wrap"]
