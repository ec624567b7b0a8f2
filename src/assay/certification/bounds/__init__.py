"""Bounds of a network's logits over a ball of images: intervals, and linear functions propagated backwards (CROWN)."""

from assay.certification.bounds.graph import Graph, Node, Recording, check_graph, record
from assay.certification.bounds.interval import Interval, interval_bounds, interval_margins

__all__ = [
    "Graph",
    "Interval",
    "Node",
    "Recording",
    "check_graph",
    "interval_bounds",
    "interval_margins",
    "record",
]
