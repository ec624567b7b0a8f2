"""Time and memory, against other libraries and against the bare limit of the machine."""
