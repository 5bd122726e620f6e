"""Mixtures made of dry speech: the configuration, scenes as text, impulse responses, rendering, mixture sets.

May use ``utils``, ``dsp`` and ``data``.
"""
