"""Stores of files that lie elsewhere (object stores and web servers, by fsspec), and files that hold many others.

Files are listed once, read by ranges, ahead of need and again where a store fails for a while.
"""
