"""What the joint training reads: whole mixtures, their references and transcripts."""

import argparse

import numpy as np

from frontend.audio import audio_info, read_audio
from frontend.errors import UserError
from frontend.espnet import AbsPreprocessor
from frontend.parallel import progress
from frontend.rng import generator
from frontend.spatial import array_symmetries
from frontend.tables import read_scp
from frontend.token_list import count
from frontend.token_list import unknown as unknown_tokens
from frontend.train_checks import given_set, same_ids


class WholeUtterances(AbsPreprocessor):
    """Read a mixture, its references and its transcripts as they are.

    A recogniser needs whole utterances, and the level that it is used at: nothing is cropped or
    scaled. In training the channels are turned by a random symmetry of the array that leaves the
    reference channel in place, keyed by (seed, epoch, utterance).

    Args:
        train: False reads the channels in their own order.
        text: ESPnet's preprocessor that turns transcripts into numbers.
        fs: rate that all recordings must have.
        n_mics: channels that the mixtures must have.
        ref_channel: where the references were taken.
        array_symmetry: see :func:`frontend.spatial.array_symmetries`.
        seed: of the training.
    """

    def __init__(
        self,
        train: bool,
        text: AbsPreprocessor,
        fs: int,
        n_mics: int,
        ref_channel: int = 0,
        array_symmetry: str = "none",
        seed: int = 0,
    ):
        super().__init__(train)
        self.text, self.fs, self.n_mics, self.seed, self.epoch = text, fs, n_mics, seed, 0
        symmetries = array_symmetries(array_symmetry if train else "none", n_mics)
        self.symmetries = [list(s) for s in symmetries if s[ref_channel] == ref_channel]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next examples are for (the iterator factory does)."""
        self.epoch = epoch

    def cut(self, text: str) -> list[str]:
        """Return the tokens of a transcript."""
        return self.text.tokenizer.text2tokens(self.text.text_cleaner(text))

    def __call__(self, uid: str, data: dict[str, str]) -> dict[str, np.ndarray]:
        """Return speech (T, C), or (T,) of one microphone, speech_ref1..S (T,), text_spk1..S (L,)."""
        mixture = self._read(data["speech"], self.n_mics)
        turn = generator(self.seed, uid, self.epoch, "symmetry").integers(len(self.symmetries))
        mixture = mixture[self.symmetries[int(turn)]]
        example = {"speech": mixture[0] if self.n_mics == 1 else np.ascontiguousarray(mixture.T)}
        references = {name: entry for name, entry in data.items() if name.startswith("speech_ref")}
        example |= {name: self._read(entry, 1)[0] for name, entry in references.items()}
        return example | self.text(uid, {k: v for k, v in data.items() if k.startswith("text_spk")})

    def _read(self, entry: str, channels: int) -> np.ndarray:
        audio, fs = read_audio(entry, finite=True)  # NaN of one recording would become that of all weights
        if (len(audio), fs) != (channels, self.fs):
            raise UserError(
                f"{entry}: {channels} channel(s) at {self.fs} Hz expected, found {len(audio)} at {fs} Hz"
            )
        return audio


def expand_data(args: argparse.Namespace, talkers: int) -> None:
    """Turn ``--train_set`` and ``--valid_set`` into ESPnet's data options, in place.

    Raises:
        UserError: a directory or a table in it is missing, or it has another number of talkers.
    """
    for which in ("train", "valid"):
        directory = given_set(args, which)
        found = sum(path.stem[3:].isdigit() for path in directory.glob("spk*.scp"))
        if found != talkers:
            raise UserError(
                f"{directory}: one reference (spkN.scp) per output of --separator expected: {talkers}, "
                f"found {found}"
            )
        names = {"wav.scp": "speech"}
        names |= {f"spk{k}.scp": f"speech_ref{k}" for k in range(1, talkers + 1)}
        names |= {f"text_spk{k}": f"text_spk{k}" for k in range(1, talkers + 1)}
        triples = [(str(directory / file), name, "text") for file, name in names.items()]
        setattr(args, f"{which}_data_path_and_name_and_type", triples)
        setattr(args, f"{which}_shape_file", [str(directory / "utt2num_samples")])


def check_data(args: argparse.Namespace, reader: WholeUtterances) -> list[str]:
    """Look at every recording's header and every transcript of both sets.

    Args:
        args: with the data options filled in by :func:`expand_data`.
        reader: as the training will use it.

    Returns:
        of each table with words that the recogniser has no token for, a line that counts and names them.

    Raises:
        UserError: the first thing that is wrong.
    """
    unknown = []
    kind = args.token_type if args.token_type in ("word", "char") else "bpe"
    for which in ("train", "valid"):
        shapes = read_scp(getattr(args, f"{which}_shape_file")[0])
        tables, paths = {}, {}
        for path, name, _ in getattr(args, f"{which}_data_path_and_name_and_type"):
            tables[name], paths[name] = read_scp(path, allow_empty=name.startswith("text_spk")), path
            same_ids(tables[name], shapes, path, "utt2num_samples")
        _check_audio(tables, paths, reader)
        for name in (name for name in tables if name.startswith("text_spk")):
            images = tables[name.replace("text_spk", "speech_ref")]
            _check_spoken(tables[name], paths[name], images)
            # ESPnet turns them into <unk> without a word.
            counts = count(tables[name].values(), reader.cut)
            line = unknown_tokens(counts, reader.text.token_id_converter.token_list, kind)
            unknown += [f"{paths[name]}: {line}"] if line else []
    return unknown


def _check_audio(tables: dict[str, dict[str, str]], paths: dict[str, str], reader: WholeUtterances) -> None:
    frames = {}
    for name in (name for name in tables if name.startswith("speech")):
        channels = reader.n_mics if name == "speech" else 1
        for utterance, entry in progress(tables[name].items(), len(tables[name]), f"check {paths[name]}"):
            found = audio_info(entry)
            wanted = (channels, frames.setdefault(utterance, found[1]), reader.fs)  # "speech" comes first
            if found != wanted:
                raise UserError(
                    f"{paths[name]}: {utterance}: {{}} channel(s), {{}} samples, {{}} Hz expected, ".format(
                        *wanted
                    )
                    + f"found {found[0]}, {found[1]}, {found[2]} in {entry}"
                )


def _check_spoken(texts: dict[str, str], path: str, images: dict[str, str]) -> None:
    """Let only a silent talker have no transcript: the recogniser would learn to pass over speech."""
    for utterance in (utterance for utterance, text in texts.items() if not text):
        if read_audio(images[utterance])[0].any():
            raise UserError(
                f"{path}: {utterance}: a transcript expected, found none, though {images[utterance]} is not "
                "silent (add it, or leave the utterance out of the set)"
            )
