"""Panels of the page, one file in Python for the data and one in JavaScript for the drawing.

A panel of a run is a class like ``NeuronCurves``, entered in ``PANELS`` of ``data.py``. Its script
calls ``neuronxa.addPanel`` and is entered in ``PANEL_SCRIPTS`` of ``page.py``.
"""
