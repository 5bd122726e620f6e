"""Training of separators: MixIT's loss, examples, the ESPnet task, checks of a configuration, checkpoints.

May use ``utils``, ``dsp``, ``data``, ``simulation`` and ``networks``.
"""
