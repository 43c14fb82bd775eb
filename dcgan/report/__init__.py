"""Renders the quality of a generator as one self-contained HTML file: values in, a string out.

Python computes the values and draws the charts; the templates beside it lay them out, and escape every text.
"""
