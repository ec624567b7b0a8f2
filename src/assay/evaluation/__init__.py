"""Evaluation: studies resolved into cells, run chunk by chunk, stored as records, scored into numbers."""
