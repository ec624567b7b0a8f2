"""The checks before a run: is this model fit to be attacked with these images?"""
