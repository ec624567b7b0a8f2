"""The study of Sen et al. 2023: its tables and figures as studies, its printed numbers, its errata."""
