"""The functions a notebook calls: one attack on tensors, one sweep over budgets, one evaluation of a model."""
