"""What lies on disk: audio, Kaldi tables, mixture sets, dry speech, who spoke when, a user's recordings.

May use ``utils`` and ``dsp``.
"""
