"""A run in its directory: who owns it, what is left to do, how far it is."""
