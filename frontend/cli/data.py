"""``mixit data ...`` and ``mixit simulate ...``: sets of recordings, scenes and mixtures."""

import sys
from pathlib import Path

import click

from frontend.cli import AtLeast, Group, flag, needed, nj, one_of, option, stack, way
from frontend.utils.errors import UserError

MOST_SHOWN = 20
AUDIO_FORMATS = ("wav", "flac", "flac.ark")


@click.group(cls=Group)
def data() -> None:
    """Check and make data directories."""


@data.command()
@click.argument("directories", nargs=-1, required=True, metavar="DIR...")
def check(directories: tuple[str, ...]) -> int:
    """Check data directories: tables, ids, and every audio file they name.

    Prints one line a directory and exits with 0 if all is well, else one line a problem and 2.
    """
    from frontend.data.kaldi import read_scp, validate

    wrong = False
    for directory in directories:
        problems = validate(directory)
        for problem in problems[:MOST_SHOWN]:
            print(problem, file=sys.stderr)
        if len(problems) > MOST_SHOWN:
            print(f"{directory}: and {len(problems) - MOST_SHOWN} more problems", file=sys.stderr)
        if not problems:
            print(f"{directory}: valid, {len(read_scp(f'{directory}/wav.scp'))} utterances")
        wrong |= bool(problems)
    return 2 if wrong else 0


@data.command()
@needed("data", "the data directory to take from", metavar="DIR")
@needed("out", "the data directory to make", metavar="DIR")
@option("num", "number of utterances (default: all)", type=int)
@option("share", "share of the utterances, 0 < share <= 1", type=float)
@flag("unlabelled", "leave images, texts and scenes out")
@option("seed", "of the choice", type=int, default=0)
def subset(data: str, out: str, num: int | None, share: float | None, unlabelled: bool, seed: int) -> None:
    """Make a data directory of a random part of another; the audio stays where it is.

    Which utterances are kept depends on the seed and their ids alone, and a larger part contains every smaller
    one of the same seed.
    """
    one_of("num", "share")
    from frontend.data.kaldi import read_scp
    from frontend.data.mixtures import subset
    from frontend.utils.rng import generator

    ids = list(read_scp(f"{data}/wav.scp"))
    number = len(ids) if num is None else num
    if share is not None:
        if not 0 < share <= 1:
            raise UserError(f"--share {share}: expected a number above 0 and at most 1")
        number = max(1, round(share * len(ids)))
    if not 1 <= number <= len(ids):
        raise UserError(f"--num {number}: expected 1 to {len(ids)}, which {data}/wav.scp has")
    ids.sort(key=lambda key: (generator(seed, key, "subset").random(), key))
    subset(data, out, ids[:number], labelled=not unlabelled)
    print(f"{out}: {number} of {len(ids)} utterances of {data}")


@data.command()
@needed("recordings", "the folder, or a table 'id file'", metavar="DIR|SCP")
@needed("out", "the data directory to make", metavar="DIR")
@option("fs", "lower the rate to this, in Hz (default: as recorded)", type=int)
@option(
    "geometry",
    "circular, linear, none (unknown), or a file with a line 'x y z' for each channel",
    default="none",
)
@option(
    "channel_pattern",
    "regular expression for files of one channel, matched with their names without ending; its two groups are "
    "the recording's name and the channel's number",
)
@nj
def recordings(
    recordings: str, out: str, fs: int | None, geometry: str, channel_pattern: str, nj: int
) -> None:
    """Make a Kaldi data directory of a folder of multi-channel recordings, or of a table of them.

    A recording is a wav or flac file of several channels, or one file a channel: NAME_ch1.wav NAME_ch2.wav,
    NAME.CH1.wav, NAME-1.wav, NAME_1.wav ... (numbers from 0 or 1). All must be of one array and one rate.
    """
    if fs is not None and fs < 1000:
        raise UserError(f"--fs {fs}: expected a rate in Hz, such as 8000 or 16000")
    from frontend.data.recordings import prepare

    prepare(recordings, out, fs, geometry, channel_pattern, nj)


@data.command()
@needed("data", "the whole recordings (mixit data recordings)", metavar="DIR")
@needed("out", "the two unlabelled sets to make", nargs=2, metavar="TRAIN DEV")
@option("rttm", "who talks when: SPEAKER recording 1 start duration ...")
@option("segments", "Kaldi's: utterance recording start end")
@option("min_speech", "least length of all chunks in seconds", type=float, default=60.0)
@option("dev_share", "share of the chunks for validation", type=float, default=0.1)
@option("seed", "of the division", type=int, default=0)
@nj
def chunks(data, out, rttm, segments, min_speech, dev_share, seed, nj) -> None:
    """Cut training and validation chunks of 3 to 8 s out of whole recordings, where somebody talks.

    Where that is, the energy says, or a file: RTTM, or Kaldi's segments. The chunks for validation are stretches
    of time of their own.
    """
    one_of("rttm", "segments")
    if not 0 < dev_share < 0.5:
        raise UserError(f"--dev_share {dev_share:g}: expected more than 0 and less than 0.5")
    from frontend.data.recordings import make_chunks

    spans = ("rttm", rttm) if rttm else ("segments", segments) if segments else None
    make_chunks(data, out, spans, min_speech, dev_share, seed, nj)


@data.command()
@flag("separated", "make it of separated streams")
@option("speech", "speech set (dry): wav.scp text utt2spk; several times", metavar="DIR", multiple=True)
@option("rooms", "mixture set of one channel, each talker alone; several times", metavar="DIR", multiple=True)
@option("data", "mixture set with text_spk1, text_spk2 ...", metavar="DIR")
@option("streams", "a system's streams of it: spk1.scp, spk2.scp ...", metavar="DIR")
@option("decoded", "their hypotheses: text_spk1, text_spk2 ...", metavar="DIR")
@option("without", "with --separated: mixtures that are not taken", metavar="DIR")
@needed("out", "data directory to make", metavar="DIR")
def recogniser(separated, speech, rooms, data, streams, decoded, without, out) -> None:
    """Make a Kaldi set to train a recogniser on, of dry speech and talkers in rooms, or of separated streams.

    \b
        mixit data recogniser --speech data/speech/train --rooms data/asr_train_rooms1 \\
            --rooms data/asr_train_rooms2 --out data/asr_train
        mixit data recogniser --separated --data data/train --streams exp/separated/train/student \\
            --decoded exp/decoded_train/student --out data/asr_train_separated

    With --separated, the hypotheses of a first recogniser decide which stream says which of a mixture's
    transcripts, by the fewest word errors: that needs transcripts, but no clean source. Mixtures where they do
    not decide are left out. No audio is copied.
    """
    if separated:
        way("with --separated", "data streams decoded", "out separated without")
    else:
        way("without --separated", "speech rooms", "out")
    from frontend.recognition.training_sets import make_asr_set, make_separated_set

    if separated:
        number, left_out = make_separated_set(data, streams, decoded, out, without)
        print(f"{out}: {number} streams of {data}; {left_out} mixtures left out as undecided")
    else:
        number = make_asr_set(speech, rooms, out)
        print(f"{out}: {number} utterances of {', '.join([*speech, *rooms])}")


@click.group(cls=Group)
def simulate() -> None:
    """Draw scenes and render them as mixture sets."""


_scene_config = stack(
    needed("config", "scene configuration, such as conf/scenes.yaml"),
    option("changes", "YAML file whose keys take the place of those of --config"),
)
_channels = option("channels", "microphones, instead of the configuration's", type=AtLeast())


@simulate.command()
@_scene_config
@needed("speech", "speech set to draw talkers from: wav.scp, utt2spk")
@option("num", "number of mixtures; with --pairs, at most (default: all)", type=AtLeast())
@option("prefix", "of the mixtures' ids: PREFIX_000000 ...")
@option("pairs", "list of mixtures: MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB a line")
@option("seed", "of all draws", type=int, default=0)
@needed("out", "file to write, such as data/train/scenes.jsonl")
@option("n_talkers", "talkers of every mixture, instead of the configuration's: 3, or 2-3 for either")
@option("talkers", "the same, but the configuration's one_talker_share has one talker all the same")
@_channels
@option(
    "bank",
    "take rooms, arrays and places from N that sets of this seed share (for training sets: their impulse responses "
    "are computed once, see mixit simulate render --on_the_fly); default: each its own",
    type=AtLeast(),
)
def scenes(
    config, changes, speech, num, prefix, pairs, seed, out, n_talkers, talkers, channels, bank
) -> None:
    """Draw the scenes of a set: room, array, talkers, levels and noise of each mixture, as JSON lines.

    The scene of an id depends on configuration, speech set, seed and id alone: a larger --num keeps the first
    scenes as they were. With --pairs, who is mixed with whom and the ids are given.
    """
    one_of("n_talkers", "talkers")
    if not pairs and (num is None or prefix is None):
        raise UserError("expected --num and --prefix, or --pairs; found neither")
    from frontend.simulation.config import load_config, read_count
    from frontend.simulation.scenes import draw_set

    counts = {"n_talkers": n_talkers, "talkers": talkers}
    counts = {name: read_count(f"--{name}", text) for name, text in counts.items() if text is not None}
    settings = load_config(config, channels=channels, changes=changes, **counts)
    draw_set(settings, speech, out, num, prefix, pairs, seed, bank)


@simulate.command()
@needed("scenes", "JSON lines made by mixit simulate scenes")
@needed("speech", "the speech set they were made from")
@needed("out", "mixture set to write")
@nj
@option("audio_format", "(default: wav)", type=click.Choice(AUDIO_FORMATS))
@flag("on_the_fly", "write no audio: it is rendered when it is read")
@option("rir_cache", "directory of impulse responses (default: OUT/rirs)")
@flag("parts", "also write all channels of each image, and the noise (image1.scp ...)")
@option(
    "n_talkers", "spkN.scp to write, silent where fewer talk (default: as in the fullest mixture)", type=int
)
def render(on_the_fly: bool, audio_format: str | None, **options) -> None:
    """Render scenes into a mixture set: audio, images at the reference channel, tables.

    Run it again after it was cut off: it goes on where it was. The audio is the same bit for bit whatever --nj.
    Impulse responses are kept, so that a set with the same geometry but other speech, levels or noise is rendered
    about ten times faster.

    With --on_the_fly no mixture is written: the set names scenes, and who reads it renders them, with the same
    samples. It needs the speech and the impulse responses as long as it is used. Scenes made with mixit simulate
    scenes --bank N have N rooms however many they are, so that more mixtures are free.
    """
    if on_the_fly and audio_format:
        raise UserError("--audio_format: a set on the fly has no audio (leave it out, or --on_the_fly)")
    from frontend.simulation.mixture_sets import simulate_set, virtual_set

    if on_the_fly:
        count = virtual_set(**options)
        end = (
            f"rendered when they are read, in {count['rooms']} rooms ({count['computed']} computed now); "
            f"{count['bytes'] / 1e6:.1f} MB instead of {count['rendered_bytes'] / 1e6:.1f} MB"
        )
    else:
        count = simulate_set(audio_format=audio_format or "wav", **options)
        end = f"{count['rendered']} rendered now, {count['total'] - count['rendered']} were there"
    print(
        f"{options['out']}: {count['total']} mixtures, {count['channels']} channels, {count['talkers']} talkers; {end}"
    )


@simulate.command()
@_scene_config
@needed("conditions", "what differs, such as conf/conditions.yaml")
@flag("check", "only check the conditions")
@option("speech", "speech set of the test talkers (but for --check, required)")
@option("num", "mixtures of each condition (likewise)", type=AtLeast())
@option("out", "directory of the mixture sets (likewise)")
@option("prefix", "of the mixtures' ids", default="test")
@option("seed", "of all draws, as of the test set", type=int, default=0)
@option("n_talkers", "of every mixture, such as 2-3", default="2")
@_channels
@option("only", "some of the conditions, separated by commas")
@option("without", "all but some of the conditions, separated by commas")
@nj
@option("audio_format", "of the mixtures", type=click.Choice(AUDIO_FORMATS), default="wav")
@option("rir_cache", "directory of impulse responses (default: OUT/rirs)")
def conditions(config, conditions, check, n_talkers, channels, only, without, changes, **options) -> None:
    """Make the test set once more under each of some conditions: another array, room, distance, or noise.

    OUT/matched is made as the configuration says, OUT/NAME with the changes of condition NAME; the utterances and
    talkers of a mixture are the same in all. Run it again after it was cut off: it goes on where it was. --check
    makes nothing: the conditions are read, which needs no speech.
    """
    one_of("only", "without")
    if not check:
        for name in ("speech", "num", "out"):
            if options[name] is None:
                raise UserError(f"--{name}: expected a value, found none (or --check, which makes nothing)")
    from frontend.simulation.conditions import load_conditions, sample_conditions, simulate_conditions
    from frontend.simulation.config import read_count

    numbers = read_count("--n_talkers", n_talkers)
    chosen = (only or without or "").split(",")
    found = load_conditions(
        config, conditions, numbers, channels, chosen if only or without else None, changes
    )
    if without is not None:  # the names were checked, too
        every = load_conditions(config, conditions, numbers, channels, None, changes)
        found = [one for one in every if one.name not in chosen]
    if check:
        print(f"{conditions}: {', '.join(one.name for one in found)}")
        return
    speech, out = options["speech"], options["out"]
    drawn = sample_conditions(found, speech, options["num"], options["prefix"], options["seed"])
    rirs = options["rir_cache"] or Path(out) / "rirs"
    how = {"nj": options["nj"], "audio_format": options["audio_format"], "rir_cache": rirs}
    simulate_conditions(found, drawn, speech, out, **how)


@simulate.command()
@needed("config", "YAML file, such as conf/meetings.yaml")
@needed("speech", "speech set to draw talkers from: wav.scp, utt2spk")
@option("num", "number of recordings", type=AtLeast(), default=1)
@option("minutes", "length of each recording", type=float, default=20.0)
@option("seed", "of all draws", type=int, default=0)
@needed("out", "mixture set to write")
@option("prefix", "of the ids: PREFIX_0000 ...", default="meeting")
@option("audio_format", "of the recordings", type=click.Choice(["flac", "wav"]), default="flac")
@nj
def meetings(config: str, minutes: float, prefix: str, **options) -> None:
    """Make meeting-like long recordings: the same talkers in one room, who take turns, overlap and pause.

    OUT becomes a mixture set whose utterances are the recordings, with the talkers' images (spk1.scp ...) and
    references ref.rttm, ref.stm, ref.seglst.json. The recordings are the same bit for bit whatever --nj; run it
    again after it was cut off: it goes on with those that are missing.
    """
    if not 0.1 <= minutes <= 24 * 60:
        raise UserError(f"--minutes: expected 0.1 to 1440, found {minutes:g}")
    if not prefix or set(prefix) & set(" \t/"):
        raise UserError(f"--prefix: expected a name without blanks or slashes, found '{prefix}'")
    from frontend.simulation.meetings import Request, load_meeting_config, make_meetings, summary

    settings = load_meeting_config(config)
    made = make_meetings(Request(settings, minutes=minutes, prefix=prefix, **options))
    print(f"{options['out']}: {summary(made, settings.turns.overlap)}")
