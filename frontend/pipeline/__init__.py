"""A recipe as a list of stages: what each reads and makes, which commands it runs, and what is out of date.

May use all rooms up to ``report``.
"""
