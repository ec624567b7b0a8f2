"""The core: threats, goals, objectives, the oracle and the one search loop. Imports torch alone."""
