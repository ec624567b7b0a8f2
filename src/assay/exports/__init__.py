"""Results for other programs: trackers of experiments, model cards, data sets of records, evidence for assessors."""
