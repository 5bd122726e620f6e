"""From streams to words: the recogniser, decoding, texts, and the training of a recogniser.

May use all rooms up to ``separation``.
"""
