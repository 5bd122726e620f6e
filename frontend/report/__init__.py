"""Pages and pictures, made from JSON results alone, by the templates of this room.

May use all rooms up to ``evaluation``.
"""
