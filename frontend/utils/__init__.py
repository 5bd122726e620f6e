"""What every room needs and no room owns: errors, whole files, stamps, processes, keyed draws, devices.

Uses no other room. Nothing here knows speech, and only :mod:`frontend.utils.espnet` imports ESPnet.
"""
