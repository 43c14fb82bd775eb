"""The quality of a generator as one HTML file that needs nothing else: values in, a string out.

Python computes what is drawn where; the templates beside it say how it looks, and escape every text.
"""
