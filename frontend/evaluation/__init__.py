"""Numbers: signal measures, word errors, measures without references, intervals, rows of the table.

May use all rooms up to ``recognition``.
"""
