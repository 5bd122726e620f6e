"""What lies on disk: audio, Kaldi directories, mixture sets, dry speech, segments, a user's recordings.

May use ``utils`` and ``dsp``.
"""
