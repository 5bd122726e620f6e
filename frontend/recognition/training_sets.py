"""Kaldi sets to train a recogniser on: ``wav.scp text utt2spk spk2utt utt2num_samples``, one channel.

Made of dry speech and of single talkers in rooms, or of separated streams with the talkers' transcripts. No
audio is copied. Ids are ``SPEAKER-KIND-ID``: unique whatever the sets call their utterances, and sorted as
Kaldi demands, by utterance and by speaker at once. The tokens of their texts are here, too.
"""

import io
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from frontend.data.audio import audio_info
from frontend.data.kaldi import Utterances, read_scp, read_utterances, scan_table, write_set
from frontend.data.mixtures import MixtureSet, Streams, wrong_ids
from frontend.data.speech import check_replaced_set
from frontend.recognition.text import read_hypotheses, utterance_errors
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, atomic_file, read_text, write_text
from frontend.utils.parallel import progress

SPECIAL = {"<blank>": 0, "<unk>": 1, "<sos/eos>": -1}
# Whatever sorts before or with the "-" behind the speaker would tear sorted speakers apart.
_BEFORE_HYPHEN = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-", "_"))


def read_transcripts(path: str | Path, ids: Utterances, optional: bool = False) -> dict[str, str]:
    """Read a Kaldi table of transcripts that are to be trained on.

    Args:
        path: of the table.
        ids: the utterances of the directory, which must be the table's.
        optional: a transcript may be empty (no such talker).

    Raises:
        UserError: no such table, an utterance without a transcript, a transcript without an utterance.
    """
    table = scan_table(path, allow_empty=True)
    for problem in table.problems + wrong_ids(Path(path), table, ids):
        raise UserError(problem)
    texts = {key: text for key, text in table.entries.items() if key in ids}
    for key in (key for key, text in texts.items() if not text.strip() and not optional):
        raise UserError(
            f"{path}:{table.lines[key]}: utterance {key} has an empty transcript (write what is said, or "
            "take it out of the set)"
        )
    return texts


class _Line(NamedTuple):
    speaker: str
    name: str  # kind and id
    entry: str
    text: str


def make_asr_set(speech: Sequence[str | Path], rooms: Sequence[str | Path], out: str | Path) -> int:
    """Make a set of dry speech and of talkers in rooms, each alone, and return its number of utterances.

    Args:
        speech: speech sets with ``text`` and ``utt2spk``.
        rooms: mixture sets of one channel with ``text_spk1 ..``. Of a mixture of several talkers the
            image of each is taken, silent where the others begin or end, as a perfect separator's stream;
            of one talker the mixture itself, noise included.
        out: directory to make.

    Raises:
        UserError: a table or transcript is missing, audio of several channels or of two rates.
    """
    check_replaced_set(out, *speech, *rooms)
    lines = [line for number, path in enumerate(rooms, 1) for line in _rooms(Path(path), number)]
    dry = [line for number, path in enumerate(speech, 1) for line in _dry(Path(path), number)]
    return _write([*dry, *lines], out)


def _dry(speech: Path, number: int) -> Iterable[_Line]:
    wav = read_utterances(speech)
    texts, speakers = read_transcripts(speech / "text", wav), read_scp(speech / "utt2spk")
    for key, entry in wav.items():
        if key not in speakers:
            raise UserError(f"{speech / 'utt2spk'}: utterance {key} of wav.scp is missing (add its speaker)")
        yield _Line(speakers[key], f"dry{number if number > 1 else ''}-{key}", entry, texts[key])


def _rooms(rooms: Path, number: int) -> Iterable[_Line]:
    mixtures = MixtureSet(rooms)
    tables = sorted(rooms.glob("text_spk*")) or [rooms / "text_spk1"]
    texts = [read_transcripts(path, mixtures.wav, optional=path is not tables[0]) for path in tables]
    if 1 < len(texts) != mixtures.n_talkers:
        found = f"{mixtures.n_talkers} spkN.scp and {len(texts)} text_spkN"
        raise UserError(f"{rooms}: expected the image and the text of every talker, found {found}")
    for key, mixture in mixtures.wav.items():
        speakers = _talkers(mixtures, key, [text[key] for text in texts])
        present = [k for k, text in enumerate(texts) if text[key]]
        for k in present:
            entry = mixture if len(present) == 1 else mixtures.speakers[k][key]
            yield _Line(speakers[k], f"room{number}-{key}_{k + 1}", entry, texts[k][key])


def _talkers(mixtures: MixtureSet, key: str, texts: Sequence[str]) -> list[str]:
    """Return the speakers of a mixture with these texts, made up where it has no scene."""
    scenes = mixtures.path / "scenes.jsonl"
    if not scenes.exists():
        return [f"{key}_{k + 1}" for k in range(len(texts))]
    speakers = mixtures.talkers(key, "speaker")
    if any(texts[len(speakers) :]):
        found = f"found {len(speakers)} (correct one of both)"
        raise UserError(f"{scenes}: {key}: expected a talker for each text of text_spkN, {found}")
    return speakers


def make_separated_set(
    data: str | Path,
    streams: str | Path,
    decoded: str | Path,
    out: str | Path,
    without: str | Path | None = None,
) -> tuple[int, int]:
    """Make a set of separated streams and of what was said in them.

    Which stream says which text is decided by the fewest word errors (cpWER) of a first recogniser's
    hypotheses: that needs transcripts, but no clean source. Where two ways have as few errors as each
    other, as where nothing was recognised, the mixture is left out.

    Args:
        data: mixture set with ``text_spk1 ..``.
        streams: a system's ``spk1.scp ..`` of it.
        decoded: the hypotheses of these streams, ``text_spk1 ..``.
        out: directory to make.
        without: mixture set whose mixtures are not taken, such as the labelled ones.

    Returns:
        number of utterances, and of mixtures that were left out.

    Raises:
        UserError: no transcripts, ids or numbers of streams that differ, nothing is left.
    """
    check_replaced_set(out, data, streams, decoded)
    mixtures, hypotheses = MixtureSet(data), read_hypotheses(decoded)
    unwanted = () if without is None else MixtureSet(without).wav
    lines, left_out = [], 0
    for utterance in Streams(Path(streams), mixtures).utterances():
        key, entries = utterance.id, utterance.streams
        if key in unwanted:
            continue
        texts = mixtures.texts(key)
        if not any(texts):
            raise UserError(f"{data}: expected text_spk1 ... that say what is said in {key}, found none")
        if key not in hypotheses:
            raise UserError(f"{decoded}: no hypotheses of utterance {key} of {data} (decode it)")
        if len(hypotheses[key]) != len(entries):
            found = f"{len(entries)} streams in {streams}, {len(hypotheses[key])} hypotheses in {decoded}"
            raise UserError(f"{key}: one hypothesis per stream expected, found {found} (decode again)")
        chosen = _assign(texts, hypotheses[key])
        left_out += chosen is None
        speakers = _talkers(mixtures, key, texts)
        for talker, stream in (chosen or {}).items():
            lines.append(_Line(speakers[talker], f"sep-{key}_{talker + 1}", entries[stream], texts[talker]))
    if not lines:
        raise UserError(
            f"{decoded}: in no mixture of {data} do the hypotheses decide which stream is which talker's "
            "(train the recogniser or the separator longer, or leave --with retrain out)"
        )
    return _write(lines, out), left_out


def _assign(texts: list[str], hypotheses: list[str]) -> dict[int, int] | None:
    """Return the stream of each talker who says something; None where several ways have as few errors."""
    talkers = [k for k, text in enumerate(texts) if text]
    row = utterance_errors([texts[k] for k in talkers], hypotheses, orc=False)
    words = [len(text.split()) for text in row["hypotheses"]]
    errors = [[utterance_errors([texts[k]], [h], orc=False)["errors"] for h in hypotheses] for k in talkers]
    absent = [len(text.split()) for text in row["references"]]
    # Talkers beyond the streams get none of them.
    places = [*range(len(hypotheses)), *[None] * max(0, len(talkers) - len(hypotheses))]
    totals = []
    for way in set(itertools.permutations(places, len(talkers))):
        assigned = sum(absent[t] if s is None else errors[t][s] for t, s in enumerate(way))
        totals.append(assigned + sum(n for s, n in enumerate(words) if s not in way))
    if totals.count(row["errors"]) > 1:
        return None
    return {k: stream for k, stream in zip(talkers, row["assignment"], strict=True) if stream is not None}


def _write(lines: list[_Line], out: str | Path) -> int:
    """Write the tables, whole or not at all."""
    names: dict[str, str] = {}
    wav, text, utt2spk, samples, first = {}, {}, {}, {}, None
    for line in progress(lines, len(lines), f"make {out}"):
        speaker = line.speaker.translate(_BEFORE_HYPHEN)
        if names.setdefault(speaker, line.speaker) != line.speaker:
            raise UserError(f"speakers {names[speaker]} and {line.speaker} are one as {speaker} (rename one)")
        key = f"{speaker}-{line.name}"
        channels, samples[key], fs = audio_info(line.entry)
        first = first or (fs, line.entry)
        if channels != 1:
            raise UserError(
                f"{line.entry}: expected one channel, found {channels} (a recogniser takes one channel: "
                "simulate with --channels 1, or separate first)"
            )
        if fs != first[0]:
            wanted = f"expected {first[0]} Hz as in {first[1]}"
            raise UserError(f"{line.entry}: {wanted}, found {fs} Hz (resample it)")
        wav[key], text[key], utt2spk[key] = line.entry, line.text, speaker
    with atomic_directory(out) as part:
        write_set(part, {"wav.scp": wav, "text": text, "utt2num_samples": samples}, utt2spk)
    return len(wav)


# --- tokens


def read_list(path: str | Path) -> list[str]:
    """Read a token list, one token a line.

    Raises:
        UserError: no such file, a token twice, or not the special tokens in their places.
    """
    text = read_text(path, "a token list (--token_list)")
    tokens = [line.rstrip() for line in text.removesuffix("\n").split("\n")]
    if len(tokens) < 3 or any(tokens[place] != special for special, place in SPECIAL.items()):
        found = f"{' '.join(tokens[:2])} ... {tokens[-1]}"
        raise UserError(f"{path}: expected <blank> <unk> ... <sos/eos>, one token a line, found {found}")
    for token, times in Counter(tokens).items():
        if times > 1:
            raise UserError(f"{path}: token {token} occurs {times} times (keep one of the lines)")
    return tokens


def write_list(path: str | Path, tokens: Iterable[str]) -> None:
    """Write a token list, one token a line, whole or not at all."""
    write_text(path, "".join(f"{token}\n" for token in tokens))


def train_pieces(path: str | Path, texts: Iterable[str], size: int, mode: str) -> None:
    """Train a sentencepiece model with the settings of ``asr.sh``, by ``unigram`` or ``bpe`` (``mode``).

    Raises:
        UserError: the text has too few or too many different pieces for that size.
    """
    import sentencepiece  # of ESPnet's packages, and for this alone

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type=mode,
            character_coverage=1.0,
            num_threads=1,  # sums in one order
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"--nbpe {size}: the training text gives no such vocabulary: {error}") from None
    with atomic_file(path) as part:
        part.write_bytes(model.getvalue())


def read_pieces(path: str | Path) -> list[str]:
    """Return the token list of a sentencepiece model, with ESPnet's special tokens in place of its own.

    Raises:
        UserError: there is no such model.
    """
    import sentencepiece

    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        raise UserError(f"{path}: expected a sentencepiece model (--bpemodel), found none") from None
    found = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    own = ("<unk>", "<s>", "</s>")
    return ["<blank>", "<unk>", *(piece for piece in found if piece not in own), "<sos/eos>"]
