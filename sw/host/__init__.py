"""The host of a board: ``link`` keeps the session over its serial port, ``accelerator`` is its API.

The command line is ``python -m sw.host``.
"""
