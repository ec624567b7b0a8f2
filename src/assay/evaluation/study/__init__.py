"""The language of studies: what a file or a Python call may say, and what is said about a slip."""
