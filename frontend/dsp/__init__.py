"""Signal processing: arrays in, arrays out. Spatial statistics, blind separation, refinement, activity, measures.

May use ``utils``. No files and no ESPnet here.
"""
