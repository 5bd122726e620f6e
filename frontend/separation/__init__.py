"""From mixtures to streams: trained and blind systems, pseudo-target rules, long recordings, labels.

May use all rooms up to ``training``.
"""
