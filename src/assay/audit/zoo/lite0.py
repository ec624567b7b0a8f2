"""Every broken defence around `efficientnet-lite0`, as models that load by name: `assay.audit.zoo.lite0:rounding`."""

from __future__ import annotations

from assay.audit.zoo.wrapping import factories

globals().update(factories(__name__))
