"""Signal processing, arrays in and arrays out: spatial statistics, blind separation, refinement, measures.

May use ``utils``. No files and no ESPnet here.
"""
