"""Renders a generator and its quality as self-contained HTML files: values in, a string out.

Python computes the values and draws the charts; the templates beside it lay them out, and escape every text.
"""
