"""``mixit data ...`` and ``mixit simulate ...``: sets of recordings, scenes and mixtures."""

import sys
from collections.abc import Sequence

import click

from frontend import AUDIO_FORMATS
from frontend.cli import COUNT, Group, alone_in, flag, needed, nj, one_of, option, shard, way
from frontend.utils.errors import UserError

MOST_SHOWN = 20


@click.group(cls=Group)
def data() -> None:
    """Check and make data directories."""


@data.command()
@click.argument("directories", nargs=-1, required=True, metavar="DIR...")
def check(directories: tuple[str, ...]) -> int:
    """Check data directories: tables, ids, and every audio file they name.

    Prints one line a directory and exits with 0 if all is well, else one line a problem and 2.
    """
    from frontend.data.kaldi import read_utterances, validate
    from frontend.data.mixtures import Silences

    wrong = False
    for directory in directories:
        silences = Silences(directory)
        problems = validate(directory, silences.add)
        silences.say()
        for problem in problems[:MOST_SHOWN]:
            print(problem, file=sys.stderr)
        if len(problems) > MOST_SHOWN:
            print(f"{directory}: and {len(problems) - MOST_SHOWN} more problems", file=sys.stderr)
        if not problems:
            print(f"{directory}: valid, {len(read_utterances(directory))} utterances")
        wrong |= bool(problems)
    return 2 if wrong else 0


@data.command()
@needed("data", "the data directory to take from", metavar="DIR")
@needed("out", "the data directory to make", metavar="DIR")
@option("num", "number of utterances (default: all)", type=int)
@option("share", "share of the utterances, 0 < share <= 1", type=float)
@option("fewest", "with --share, keep so many at least, where there are so many", type=COUNT, default=1)
@flag("unlabelled", "leave images, texts and scenes out")
@option("seed", "of the choice", type=int, default=0)
@alone_in("out")
def subset(
    data: str, out: str, num: int | None, share: float | None, fewest: int, unlabelled: bool, seed: int
) -> None:
    """Make a data directory of a random part of another; the audio stays where it is.

    Which utterances are kept depends on the seed and their ids alone, and a larger part contains every
    smaller one of the same seed.
    """
    one_of("num", "share")
    from frontend.data.kaldi import read_utterances
    from frontend.data.mixtures import subset
    from frontend.utils.rng import generator

    ids = list(read_utterances(data))
    number = len(ids) if num is None else num
    if share is not None:
        if not 0 < share <= 1:
            raise UserError(f"--share {share}: expected a number above 0 and at most 1")
        number = min(len(ids), max(fewest, round(share * len(ids))))
    if not 1 <= number <= len(ids):
        raise UserError(f"--num {number}: expected 1 to {len(ids)}, which {data}/wav.scp has")
    ids.sort(key=lambda key: (generator(seed, key, "subset").random(), key))
    subset(data, out, ids[:number], labelled=not unlabelled)
    print(f"{out}: {number} of {len(ids)} utterances of {data}")


@data.command()
@needed("recordings", "the folder, one recording, or a table 'id file'", metavar="DIR|FILE|SCP")
@needed("out", "the data directory to make", metavar="DIR")
@option("fs", "lower the rate to this, in Hz (default: as recorded)", type=int)
@option(
    "geometry", "circular, linear, none (unknown), or a file with a line 'x y z' a channel", default="none"
)
@option(
    "channel_pattern",
    "files of one channel: a regular expression; its group (?P<channel>...) is the number, others the name",
)
@nj
@alone_in("out")
def recordings(
    recordings: str, out: str, fs: int | None, geometry: str, channel_pattern: str, nj: int
) -> None:
    """Make a Kaldi data directory of a folder of multi-channel recordings, or of a table of them.

    A recording is a wav or flac file of several channels, or one file a channel: NAME_ch1.wav NAME_ch2.wav,
    NAME.CH1.wav, NAME-1.wav, NAME_1.wav, NAME_CH1_MORE.wav ... (numbers from 0 or 1). All must be of one
    array and one rate.
    """
    if fs is not None and fs < 1000:
        raise UserError(f"--fs {fs}: expected a rate in Hz, such as 8000 or 16000")
    from frontend.data.recordings import prepare
    from frontend.data.speech import check_new_set

    check_new_set(out, recordings)
    prepare(recordings, out, fs, geometry, channel_pattern, nj)


@data.command()
@needed("data", "the whole recordings (mixit data recordings)", metavar="DIR")
@needed("out", "the two unlabelled sets to make", nargs=2, metavar="TRAIN DEV")
@option("rttm", "who talks when: SPEAKER recording 1 start duration ...")
@option("segments", "Kaldi's: utterance recording start end")
@flag("strict", "an error where otherwise a warning says which lines of these files are not used")
@option("min_speech", "least length of all chunks in seconds", type=float, least=0, default=60.0)
@option("dev_share", "share of the chunks for validation", type=float, default=0.1)
@option("seed", "of the division", type=int, default=0)
@nj
@alone_in(lambda params: params["out"])
def chunks(data, out, rttm, segments, strict, min_speech, dev_share, seed, nj) -> None:
    """Cut training and validation chunks of 3 to 8 s out of whole recordings, where somebody talks.

    Where that is, the energy says, or a file: RTTM, or Kaldi's segments (-1 is the end of the recording).
    Lines about other recordings are passed over and counted. The chunks for validation are
    stretches of time of their own.
    """
    one_of("rttm", "segments")
    if not 0 < dev_share < 0.5:
        raise UserError(f"--dev_share {dev_share:g}: expected more than 0 and less than 0.5")
    from frontend.data.chunks import make_chunks

    spans = ("rttm", rttm) if rttm else ("segments", segments) if segments else None
    make_chunks(data, out, spans, min_speech, dev_share, seed, nj, strict)


@data.command()
@flag("separated", "make it of separated streams")
@option("speech", "speech set (dry): wav.scp text utt2spk", metavar="DIR", multiple=True)
@option("rooms", "mixture set of one channel, each talker alone", metavar="DIR", multiple=True)
@option("data", "mixture set with text_spk1, text_spk2 ...", metavar="DIR")
@option("streams", "a system's streams of it: spk1.scp, spk2.scp ...", metavar="DIR")
@option("decoded", "their hypotheses: text_spk1, text_spk2 ...", metavar="DIR")
@option("without", "with --separated: mixtures that are not taken", metavar="DIR")
@needed("out", "data directory to make", metavar="DIR")
@alone_in("out")
def recogniser(separated, speech, rooms, data, streams, decoded, without, out) -> None:
    """Make a Kaldi set to train a recogniser on, of dry speech and talkers in rooms, or of separated streams.

    \b
        mixit data recogniser --speech data/speech/train --rooms data/asr_train_rooms1 \\
            --rooms data/asr_train_rooms2 --out data/asr_train
        mixit data recogniser --separated --data data/train --streams exp/separated/train/student \\
            --decoded exp/decoded_train/student --out data/asr_train_separated

    With --separated, the hypotheses of a first recogniser decide which stream says which of a mixture's
    transcripts, by the fewest word errors: that needs transcripts, but no clean source. Mixtures where they
    do not decide are left out. No audio is copied.
    """
    from frontend.recognition.training_sets import make_asr_set, make_separated_set

    if separated:
        way("with --separated", "data streams decoded", "out separated without")
        number, left_out = make_separated_set(data, streams, decoded, out, without)
        print(f"{out}: {number} streams of {data}; {left_out} mixtures left out as undecided")
    else:
        way("without --separated", "speech rooms", "out")
        number = make_asr_set(speech, rooms, out)
        print(f"{out}: {number} utterances of {', '.join([*speech, *rooms])}")


@click.group(cls=Group)
def simulate() -> None:
    """Draw scenes and render them as mixture sets."""


@simulate.command()
@needed("config", "scene configuration, such as conf/scenes.yaml")
@option("set", "an override of --config", metavar="KEY=VALUE", multiple=True)
@option("conditions", "file of conditions, such as conf/conditions.yaml")
@option("condition", "one of them, or 'matched'")
@needed("speech", "speech set to draw talkers from: wav.scp, utt2spk")
@option("num", "number of mixtures; with --pairs, at most (default: all)", type=COUNT)
@option("prefix", "of the mixtures' ids: PREFIX_000000 ...")
@option("pairs", "list of mixtures: MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB a line")
@option("seed", "of all draws", type=int, default=0)
@needed("out", "file to write, such as data/train/scenes.jsonl")
@option("n_talkers", "talkers of every mixture, instead of the configuration's: 3, or 2-3 for either")
@option("talkers", "the same, but the configuration's one_talker_share has one talker all the same")
@option("channels", "microphones, instead of the configuration's", type=COUNT)
@option(
    "bank", "take rooms and places from N that sets of this seed share (default: each its own)", type=COUNT
)
def scenes(config, conditions, condition, speech, num, prefix, pairs, seed, out, bank, **options) -> None:
    """Draw the scenes of a set: room, array, talkers, levels and noise of each mixture, as JSON lines.

    The scene of an id depends on configuration, speech set, seed and id alone: a larger --num keeps the first
    scenes as they were. With --pairs, who is mixed with whom and the ids are given. --bank is for training
    sets: the impulse responses of N rooms are computed once (mixit simulate render --on_the_fly).

    With --condition, the overrides that --conditions lists for it come after those of --set. The utterances
    and talkers of a mixture must be those of the matched set.
    """
    one_of("n_talkers", "talkers")
    if not pairs and (num is None or prefix is None):
        raise UserError("expected --num and --prefix, or --pairs; found neither")
    if (condition is None) != (conditions is None):
        raise UserError("expected --condition and --conditions, or none of them; found one")
    from frontend.simulation.config import MATCHED, load_condition, load_config
    from frontend.simulation.scenes import draw_set

    changed = _overrides(**options)
    settings = (
        load_condition(config, conditions, condition, changed) if condition else load_config(config, changed)
    )
    matched = load_config(config, changed) if condition not in (None, MATCHED) else None
    draw_set(settings, speech, out, num, prefix, pairs, seed, bank, matched)


def _overrides(
    set: Sequence[str], n_talkers: str | None, talkers: str | None, channels: int | None
) -> list[str]:
    """Return --set and what the other options stand for as overrides of a scene configuration."""
    from frontend.simulation.config import read_count

    found = list(set)
    for name, text in (("n_talkers", n_talkers), ("talkers", talkers)):
        if text is not None:
            found.append(f"talkers.number={list(read_count(f'--{name}', text))}")
    found += ["talkers.one_talker_share=0"] * (n_talkers is not None)
    return found + [f"array.channels={channels}"] * (channels is not None)


@simulate.command()
@needed("scenes", "JSON lines made by mixit simulate scenes")
@needed("speech", "the speech set they were made from")
@needed("out", "mixture set to write")
@nj
@option("audio_format", "(default: wav)", type=click.Choice(AUDIO_FORMATS))
@flag("on_the_fly", "write no audio: it is rendered when it is read")
@option("rir_cache", "directory of impulse responses (default: OUT/rirs)")
@flag("parts", "also write all channels of each image, and the noise (image1.scp ...)")
@shard
@option(
    "n_talkers",
    "spkN.scp to write, silent where fewer talk (default: as many as ever talk)",
    type=int,
    least=1,
)
@alone_in("out")
def render(on_the_fly: bool, audio_format: str | None, **options) -> None:
    """Render scenes into a mixture set: audio, images at the reference channel, tables.

    Run it again after it was cut off: it goes on where it was. The audio is the same bit for bit whatever
    --nj. Impulse responses are kept, so that a set with the same geometry but other speech, levels or noise
    is rendered about ten times faster.

    With --on_the_fly no mixture is written: the set names scenes, and who reads it renders them, with the
    same samples. It needs the speech and the impulse responses as long as it is used. Scenes made with mixit
    simulate scenes --bank N have N rooms however many they are, so that more mixtures are free.
    """
    if on_the_fly and audio_format:
        raise UserError("--audio_format: a set on the fly has no audio (leave it out, or --on_the_fly)")
    from frontend.simulation.mixture_sets import make_set

    count = make_set(on_the_fly=on_the_fly, audio_format=audio_format or "wav", **options)
    if on_the_fly:
        how = f"rendered when they are read, in {count['rooms']} rooms ({count['computed']} computed now)"
    else:
        how = f"{count['rendered']} rendered now, {count['total'] - count['rendered']} were there"
    fewest = f"{count['fewest']} to " * (count["fewest"] < count["channels"])
    what = f"{count['total']} mixtures, {fewest}{count['channels']} channels, {count['talkers']} talkers"
    print(f"{options['out']}: {what}; {how}")
