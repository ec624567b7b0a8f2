"""Records: the tables a run keeps, and everything stored beside them."""
