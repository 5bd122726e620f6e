"""``mixit decode``, ``score``, ``wer``, ``report`` and ``compare``: what came of it."""

import os
import shlex
from pathlib import Path

import click

from frontend.cli import (
    PATH,
    RULE,
    Command,
    activity,
    alone_in,
    flag,
    is_recordings,
    needed,
    nj,
    one_of,
    option,
    recogniser,
    shard,
    split,
    way,
)
from frontend.utils.errors import UserError

_RULE = (*RULE, "max_seconds")


@click.command(cls=Command)
@recogniser
@option("config", "options of the search, such as conf/decode.yaml (default: ESPnet's)")
@needed("data", "labelled test set, with texts; or whole recordings (mixit data recordings)")
@needed("separated", "directory of streams (ID_spk1.wav ... or spk1.scp ...), or with one per system")
@needed("out", "where the hypotheses go")
@option("only", "some of the systems, separated by commas")
@option("speech", "test set: dry speech that it was simulated from, to be recognised as the system 'dry'")
@option("systems", "test set: systems file, such as conf/systems.yaml (default: all that is there)")
@option("exp", "with --systems: directory that the systems' own recognisers lie in")
@flag("shared", "test set: leave out systems that have a recogniser of their own")
@flag("allow_unknown", "test set: go on where reference words are not among the tokens: each is an error")
@activity
@option(
    "max_seconds",
    "recordings: longer segments are cut at their quietest place",
    type=float,
    above=0,
    default=15.0,
)
@nj
@option("ngpu", "1: recognise on a GPU, in one process", type=int, default=0)
@shard
@alone_in("out")
def decode(data: str, only: str | None, ngpu: int, **_) -> None:
    """Recognise the streams of every system, on a test set or on whole recordings.

    A test set: OUT/SYSTEM/{text_spk1,...,hyp.seglst.json,info.json}. Of the systems below SEPARATED those of
    --systems are recognised, each with its own recogniser if it has one; without --systems, all. With
    --speech also `dry`, the clean speech that the test set was simulated from.

    Whole recordings: every stream is cut into segments of speech, by energy (--leak_db ...). Writes
    OUT/SYSTEM/hyp.seglst.json (session: the recording, speaker: the stream, spk1 ...) and info.json.

    A system that has not changed is skipped, audio that was ever recognised is not recognised again
    (OUT/cache.jsonl), and what was cut off goes on where it was.
    """
    one_of("asr", "asr_model", "asr_whisper", required=True)
    if ngpu not in (0, 1):
        raise UserError(f"--ngpu: expected 0 or 1, found {ngpu} (decoding uses one GPU)")
    may = "asr asr_model asr_whisper only nj ngpu shard"
    is_long = is_recordings(data)
    if is_long:
        further = f"config leak_db {' '.join(_RULE)}"
        o = vars(way("with whole recordings", "data separated out", f"{may} {further}"))
    else:
        further = "config speech systems exp shared allow_unknown"
        o = vars(way("with a test set", "data separated out", f"{may} {further}"))
        if (o["systems"] is None) != (o["exp"] is None):
            raise UserError("--systems and --exp belong together: give both or none")
    from frontend.dsp.activity import Rule
    from frontend.recognition.decode import Request, decode
    from frontend.recognition.pieces import Cutting

    if is_long:
        rule = Rule(**{name: o.pop(name) for name in _RULE})
        o["cutting"] = Cutting(rule, o.pop("leak_db"))
    del o["ngpu"]
    decode(Request(**o | {"only": split(only), "device": "cuda" if ngpu else "cpu"}))


@click.command(cls=Command)
@needed("data", "labelled test set, or recordings with images (spk1.scp ...) and references")
@needed("separated", "directory of streams (ID_spk1.wav ... or spk1.scp ...), or with one per system")
@needed("out", "where the scores go")
@option("single_data", "test set with one talker, for over-separation")
@option("single_separated", "the systems' streams on that set")
@option(
    "measures",
    "beside SI-SNR and over-separation, by commas, may be empty",
    default="sdr,stoi,pesq",
    empty=True,
)
@option("active_db", "an output is active above this level in dB re the mixture", type=float, default=-20.0)
@nj
@option("ref", "recordings: who talks when: .rttm, .stm or .json (default: DATA/ref.rttm)")
@option("model", "recordings: trained separator, to separate each utterance alone")
@option(
    "least_s", "recordings: length of what is separated alone, at least", type=float, least=0, default=2.5
)
@option("device", "recordings: cpu, cuda, cuda:1", default="cpu")
@option("seed", "recordings: of the intervals", type=int, default=0)
@flag("strict", "recordings: an error where otherwise a warning says which references are not used")
@shard
@alone_in("out")
def score(data: str, ref: str | None, **_) -> None:
    """Score the streams of every system, on a test set or on whole recordings.

    A test set: SI-SNR, SDR, STOI, PESQ, over-separation; those of the one-talker set go to OUT/one_talker.

    Whole recordings (DATA has ref.rttm, or --ref is given), utterance by utterance of the references: SI-SNR,
    stream swaps, constancy of the streams. With --model each utterance is also separated alone, cut out of
    the mixture, and compared, paired.

    SEPARATED is a directory of streams, whose name the system then has: files ID_spk1.wav ... as `mixit
    separate` writes them, ID being that of wav.scp, or tables spk1.scp ...; or it holds one such directory
    per system.

    Writes OUT/SYSTEM.jsonl (one line an utterance) and OUT/SYSTEM.json (what it was measured on, and sums). A
    system that has not changed is skipped.
    """
    from frontend.evaluation import score as scoring

    if ref is not None or scoring.has_references(data):
        o = way("with whole recordings", "data separated out", "ref model least_s device seed nj strict")
        how = scoring.RecordingSettings(o.ref, o.model, o.least_s, o.device, o.seed, o.strict)
        scoring.score_recordings(o.data, o.separated, o.out, how, o.nj)
        return
    may = "single_data single_separated measures active_db nj shard"
    o = way("with a test set", "data separated out", may)
    if (o.single_data is None) != (o.single_separated is None):
        raise UserError("--single_data and --single_separated belong together: give both or none")
    settings = scoring.Settings(split(o.measures), o.active_db)
    scoring.score_set(o.data, o.separated, o.out, settings, o.nj, o.shard)
    if o.single_data is not None:
        # A talker alone has nothing to be separated from: only over-separation is asked of this set.
        settings, out = scoring.Settings((), o.active_db), Path(o.out) / "one_talker"
        scoring.score_set(o.single_data, o.single_separated, out, settings, o.nj, o.shard)


@click.command(cls=Command)
@option("data", "test set with text_spk1, text_spk2, ...")
@option(
    "decoded", "directory of hypotheses (mixit decode), or with one per system; of recordings, also a file"
)
@option("out", "where the counts go, or were written")
@option("compare", "count nothing: compare two systems counted in OUT", nargs=2, metavar="A B")
@option("seed", "of the intervals", type=int, default=0)
@nj
@option("ref", "recordings, instead of --data: what was said: .json (SegLST) or .stm")
@option("collar", "recordings: of tcpWER, in seconds", type=float, least=0, default=5.0)
@option(
    "orc_cells", "no ORC-WER where words said times words found pass this", type=float, least=0, default=3e8
)
@flag("strict", "recordings: an error where otherwise a warning says what is not counted")
@flag("check", "count nothing: do --transcripts fit the recordings of --scp?")
@option("transcripts", "with --check: what was said: .json (SegLST) or .stm")
@option("scp", "with --check: table 'ID FILE' of the recordings (mixit data recordings)")
@alone_in(lambda params: [] if params["check"] or params["compare"] else [params["out"]])
def wer(compare: tuple[str, str] | None, ref: str | None, check: bool, **_) -> None:
    """Count the word errors of every system, on a test set or on whole recordings; or compare two systems.

    \b
        mixit wer --data DIR --decoded DIR --out DIR       counts, of a test set
        mixit wer --ref FILE --decoded DIR --out DIR       counts, of whole recordings
        mixit wer --compare A B --out DIR                  compares, and counts nothing
        mixit wer --check --transcripts FILE --scp SCP     readable? words in every session, one a recording?

    A test set: cpWER, cpCER (the same of characters), and ORC-WER where streams and talkers differ in number.
    Beside the counts it writes OUT/SYSTEM.txt (alignments to read) and the normalised texts, for meeteval's
    command line to count alike: OUT/ref.seglst.json and OUT/SYSTEM.hyp.seglst.json.

    Whole recordings: cpWER, ORC-WER, tcpWER. References are SegLST (.json) or STM (.stm) of the same
    recordings; DECODED may be a file of one system, too.

    Writes OUT/SYSTEM.jsonl (one line an utterance or recording) and OUT/SYSTEM.json (the rates with 95 %
    intervals). A system that has not changed is skipped.

    Comparing prints by how many points of cpWER A differs from B on the same utterances (fewer errors of A
    are negative), with a 95 % interval over utterances, and the change relative to B.
    """
    if check:
        o = way("with --check", "transcripts scp", "check strict")
        from frontend.evaluation.wer_recordings import check_transcripts

        print(f"{o.transcripts}: {check_transcripts(o.transcripts, o.scp, o.strict)} words")
    elif compare:
        o = way("with --compare", "compare out", "seed nj")
        from frontend.evaluation.results import compared

        print(compared(Path(o.out), *compare, o.seed))
    elif ref is not None:
        o = way("with whole recordings", "ref decoded out", "collar orc_cells seed nj strict")
        from frontend.evaluation.wer_recordings import RecordingSettings, count_recordings

        settings = RecordingSettings(o.collar, o.orc_cells, o.seed, o.strict)
        count_recordings(o.ref, o.decoded, o.out, settings, o.nj)
    else:
        o = way("without --compare A B", "data decoded out", "seed nj")
        from frontend.evaluation.wer import count_set

        count_set(o.data, o.decoded, Path(o.out), o.nj, o.seed)


@click.command(cls=Command)
@option("exp", "directory with scores/ and stages.json; the first names the run", type=PATH, multiple=True)
@option("systems", "systems file; the rows keep its order", type=PATH)
@option("out", "directory for the report", type=PATH)
@option("config", "file to embed in the page (default: all YAML beside --systems)", type=PATH, multiple=True)
@option("quality", "quality.json of pseudo-targets, of any experiment", type=PATH, multiple=True)
@option("listen", "a page to listen to, too: DIR/report.html (of the first --exp)", type=PATH, metavar="DIR")
@flag("quick", "mark the page: its numbers mean nothing")
@option("show", "print the table of the report in DIR, make nothing", type=PATH, metavar="DIR")
@option("from", "make the page of a JSON file again, beside it or in --out", type=PATH, metavar="FILE")
@option("conditions", "table of the conditions in this file, not met in training", type=PATH, metavar="FILE")
@option(
    "microphones", "with --conditions: other numbers of microphones", type=PATH, multiple=True, metavar="EXP"
)
@flag("recordings", "separated recordings, measured without references")
@option("data", "recordings: made by mixit data recordings")
@option("separated", "recordings: one directory a system (mixit separate --systems)")
@option("dev", "recordings, with --teacher: held-out chunks (mixit data chunks)")
@option("teacher", "recordings, with --dev: the teacher's training directory")
@option("start", "recordings, with --teacher: the teacher that it started from")
@option("wer", "recordings: directory with SYSTEM.json of mixit wer")
@option("words", "recordings: directory with what mixit decode wrote")
@option("talkers", "recordings: streams of each", type=int, least=1, default=2)
@option("seed", "recordings: of the random assignment", type=int, default=0)
@nj
@alone_in(lambda params: [] if params["show"] else [params["out"]], wait=True, depth=0)
def report(recordings: bool, conditions: Path | None, show: Path | None, **more) -> None:
    """Make the table of results, or another page of numbers.

    \b
        mixit report --exp EXP --exp ... --systems FILE --out DIR      RESULTS.md, results.json and pictures
        mixit report --show DIR                                        the table of a report that is there
        mixit report --recordings --data ... --out DIR                 REPORT.md and report.json
        mixit report --conditions FILE --exp EXP ... --out DIR         MISMATCH.md and mismatch.json
        mixit report --from FILE.json                                  its page again, without new numbers

    The table is of scores/ and, where words were counted, wer/ and wer_separated/ of each experiment. Its
    main rows are printed, too.

    --recordings: residual, leakage, activity and spatial consistency of every system's streams; with --dev
    and --teacher the MixIT loss of the teacher on held-out chunks, with --words what was recognised, with
    --wer cpWER.

    --conditions: from EXP/mismatch/CONDITION/scores, and from the scores of experiments with other numbers of
    microphones.
    """
    if show is not None:
        way("with --show", "show")
        from frontend.report.pages import results_table

        print(results_table(show))
    elif more["from"] is not None:
        o = way("with --from", "from", "out")
        from frontend.report.pages import write_page

        print(write_page(more["from"], o.out))
    elif recordings:
        _report_recordings()
    elif conditions is not None:
        o = way("with --conditions", "exp systems out conditions", "microphones")
        if len(o.exp) > 1:
            raise UserError(f"--exp: expected one experiment with --conditions, found {len(o.exp)}")
        from frontend.report.comparisons import write_mismatch

        write_mismatch(o.exp[0], o.systems, o.out, conditions, o.microphones)
        print((o.out / "MISMATCH.md").read_text(encoding="utf-8"))
    else:
        _report()


def _report() -> None:
    o = way("of a table of results", "exp systems out", "config quality listen quick")
    from frontend.report.collect import write_report
    from frontend.report.pages import results_table

    configs = o.config or sorted(o.systems.parent.glob("*.yaml"))
    results = write_report(o.exp, o.systems, o.out, configs, o.quality, o.quick)
    if o.listen is not None:
        from frontend.report.listening import write_listening_page
        from frontend.separation.systems import load_systems

        page = write_listening_page(o.listen, results, o.exp[0], load_systems(o.systems, every=True), o.out)
        print(f"To listen to: {page}")
    print(results_table(o.out))


def _report_recordings() -> None:
    may = "dev teacher start wer words listen talkers seed nj"
    o = vars(way("with --recordings", "recordings data separated systems out", may))
    if (o["dev"] is None) != (o["teacher"] is None):
        raise UserError("--dev and --teacher belong together: give both or none")
    if o["start"] and not o["teacher"]:
        raise UserError("--start is what --teacher started from: expected --teacher, found none")
    from frontend.report.pages import recordings_table
    from frontend.report.recordings import write_recordings_report

    teachers = {name: o.pop(name) for name in ("start", "teacher")}
    del o["recordings"]
    report = write_recordings_report(**o, teachers={k: v for k, v in teachers.items() if v})
    print(recordings_table(report))
    if o["listen"] is not None:
        print(f"To listen to: {o['listen'] / 'report.html'}")
    print(o["out"] / "REPORT.md")


@click.command(cls=Command)
@option("exp", "experiment directory, once a training seed", type=PATH, multiple=True)
@option("out", "directory for the page; with --a and --b: a JSON file for the figures", type=PATH)
@option("refinement", "show the rows refined by it too, such as iva or iva+mask")
@flag("partial", "make the page though rows are missing")
@option("a", "a system of an experiment: once, or once a seed", metavar="EXP:SYSTEM", multiple=True)
@option("b", "what it is compared with, likewise", metavar="EXP:SYSTEM", multiple=True)
@alone_in(lambda params: [] if params["a"] or params["b"] else [params["out"]], wait=True, depth=0)
def compare(a: tuple[str, ...], b: tuple[str, ...], **_) -> None:
    """Compare experiments over several training seeds, or a system of one experiment with one of another.

    \b
        mixit compare --exp exp/espeak --exp exp/espeak_seed1 --out DIR
        mixit compare --a exp/espeak_ema:student --b exp/espeak:student

    With --exp, makes the page of the paper's two claims: CLAIMS.md, claims.json, claims.png. Each --exp is an
    experiment directory that was scored and decoded (stages.json, scores/, wer/), all of the same data and
    test set and of another training seed (run.sh --train_seed). Rows that are missing are an error; with
    --partial the page is made of what is there, and says what is not.

    With --a and --b, prints by how much A differs from B in SI-SNRi (dB), cpWER and cpCER (points, fewer
    errors of A are negative), paired by utterance, with 95 % intervals. Given several times, once for each
    training seed, the k-th --a is paired with the k-th --b, and the intervals are over seeds and utterances.
    """
    if a or b:
        o = way("with --a and --b", "a b", "out")
        from frontend.evaluation.runs import compare_runs, parse_side
        from frontend.report.pages import comparison
        from frontend.utils.files import check_place, write_json
        from frontend.utils.provenance import provenance

        for side in (*a, *b) if o.out is not None else ():
            exp = Path(side.rpartition(":")[0])
            check_place(o.out, *exp.glob("*.json"), *exp.glob("*/*.json*"))
        found = compare_runs(list(map(parse_side, a)), list(map(parse_side, b)))
        if o.out is not None:
            write_json(o.out, {**found, **provenance()}, allow_nan=False)
        print(comparison(found))
        return
    o = way("without --a and --b", "exp out", "refinement partial")
    from frontend.report.comparisons import write_claims

    # The command without the names of somebody's directories.
    words = [word for path in o.exp for word in ("--exp", os.path.relpath(path))]
    words += ["--out", os.path.relpath(o.out)]
    words += ["--refinement", o.refinement] if o.refinement else []
    words += ["--partial"] if o.partial else []
    command = shlex.join(["mixit", "compare", *words])
    results = write_claims(o.exp, o.out, o.refinement, o.partial, command)
    for line in results["missing"]:
        print(f"missing: {line}")
    print(f"Training seeds: {len(results['experiments'])}. The page: {o.out / 'CLAIMS.md'}")
