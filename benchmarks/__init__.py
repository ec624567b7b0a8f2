"""Time, memory and strength, against other libraries and against the bare limit of the machine."""
