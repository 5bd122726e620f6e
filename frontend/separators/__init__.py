"""Networks, one per file, each behind ESPnet's separator door.

Every network is ``separator(input, ilens, additional) -> (outputs, ilens, others)``
where ``outputs`` is a list of ``num_spk`` tensors shaped like one channel of the
input: complex ``(B, L, F)`` for the networks that work on an STFT, ``(B, T)`` for
those that take the waveform (ESPnet's encoder and decoder ``same``). All of them

* take ``n_mics`` microphones and refuse any other number;
* are scale-equivariant: twice the input is twice the output;
* answer silence with silence, and with finite gradients.
"""
