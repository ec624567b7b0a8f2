"""Adversarial images written to files with an index."""
