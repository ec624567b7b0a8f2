"""The commands of `assay paper`."""
