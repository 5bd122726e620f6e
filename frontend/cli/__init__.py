"""The command line: ``mixit COMMAND``, the same as ``python -m frontend COMMAND``.

May use all other rooms; nothing imports it. Heavy imports are inside the commands, so that ``--help`` is quick.
"""
