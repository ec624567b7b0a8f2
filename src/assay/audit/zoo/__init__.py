"""A zoo of broken defences: each looks robust to a gradient attack, and none of them is.

They are what an audit must not be taken in by, and what to learn the signs from. By name:
`assay.audit.zoo.mnist:rounding` and `assay.audit.zoo.lite0:rounding`; around any other classifier: `wrap`.
"""

from assay.audit.broken.table import BROKEN, BrokenDefense
from assay.audit.zoo.wrapping import wrap

__all__ = ["BROKEN", "BrokenDefense", "wrap"]
