"""Charts of runs and of the report, as Vega-Lite: one module for each, made of plain rows.

Each module has a function `figure` that returns a `style.Figure`, which `style.save` writes.
"""
