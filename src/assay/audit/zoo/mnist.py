"""Every broken defence around `zoo:mnist-cnn`, as models that load by name: `assay.audit.zoo.mnist:rounding`."""

from __future__ import annotations

from assay.audit.zoo.wrapping import factories

globals().update(factories(__name__))
