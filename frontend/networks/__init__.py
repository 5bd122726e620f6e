"""Separators behind ESPnet's ``AbsSeparator``: a new network is a file here and a line in ``training.task``.

May use ``utils`` and ``dsp``.
"""
