"""The gate: what a run must reach, against limits and against an earlier run, answered met, missed or cannot tell."""
