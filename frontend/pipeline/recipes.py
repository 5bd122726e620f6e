"""The method, stage by stage: the 22 stages from a corpus of single talkers to the table.

Each stage says what it reads, what it makes, and the commands that make it
(:class:`frontend.pipeline.stage.Stage`); those of ``egs/recordings`` are in
:mod:`frontend.pipeline.recordings`.
"""

from pathlib import Path
from typing import cast

from frontend import MODEL
from frontend.pipeline.commands import (
    asr_sets,
    beginning,
    control,
    cotrain,
    decode,
    draw,
    generation,
    in_condition,
    keep_labels,
    label,
    model,
    on_share,
    packaged,
    pair,
    render_sets,
    rows_of,
    separate,
    separated_set,
    train,
    train_asr,
    unlabelled,
)
from frontend.pipeline.mixtures import MixtureOptions
from frontend.pipeline.options import Given, Options, find_recipe, read_recipe
from frontend.pipeline.recordings import RecordingOptions, recordings
from frontend.pipeline.stage import Stage
from frontend.utils.errors import UserError

TESTS = ("test", "test_1spk")
PAGES = ("RESULTS.md", "results.json", "curves.png", "cpwer_sisnri.png")


def read_options(given: Given, listing: bool = False) -> Options:
    """Return the run that the options ask for.

    Args:
        given: the options.
        listing: stages are listed only: what a run needs may be missing.

    Raises:
        UserError: something is wrong with the options, or with the recipe.
    """
    place = find_recipe(given.recipe)
    recipe = read_recipe(place, given)
    kinds = {"mixtures": MixtureOptions, "recordings": RecordingOptions}
    if recipe["stages"] not in kinds:
        raise UserError(
            f"{place}/recipe.yaml: stages: expected mixtures or recordings, found {recipe['stages']}"
        )
    return kinds[recipe["stages"]](given, place, recipe, listing)


def stages_of(o: Options) -> list[Stage]:
    """Return the stages of a run, in their order."""
    stages = recordings(o) if isinstance(o, RecordingOptions) else mixtures(cast(MixtureOptions, o))
    o.check_settings()
    return stages


def mixtures(o: MixtureOptions) -> list[Stage]:
    """Return the stages of a run on simulated mixtures."""
    trained = [*_without_labels(o), *_with_labels(o), *_recognisers(o)]
    return [*_sets(o), *trained, *_streams(o), *_words(o), *_elsewhere(o), _report(o)]


def _sets(o: MixtureOptions) -> list[Stage]:
    """Speech, scenes and mixtures: nothing is learned here."""
    shared = f"those of {o.first} are used" if o.again else ""
    drawn, format = o.settings_of("scenes") | o.drawing, {"audio_format": o.recipe["audio_format"]}
    return [
        Stage(
            "data",
            "speech of single talkers, talker-disjoint, with texts",
            reads=[Path("local"), *o.folders],
            makes=[o.speech],
            commands=[
                o.words(
                    "local/data.sh --corpus {corpus} --out {speech} --seed {seed} --nj {nj}",
                    **{"corpus_dir": o.corpus_dir, "fs": o.given.fs, **o.size["speech"], **o.prepared},
                )
            ],
            settings={"seed": o.seed, "corpus": o.corpus, "utterances": o.size["speech"]} | o.prepared,
            skip=shared,
            first=o.fetch,
            shared=o.speech.parent / "stages",
        ),
        Stage(
            "scenes",
            "who stands where, in which room: text only",
            reads=[o.speech],
            makes=[o.data / "scenes"],
            commands=[draw(o, *drawn_set) for drawn_set in o.sets],
            settings=drawn | {"mixtures": o.size["mixtures"]},
            skip=shared,
        ),
        Stage(
            "simulate",
            "images, noise and mixtures of every scene",
            reads=[o.data / "scenes", o.speech],  # whose texts are the sets'
            makes=[*(o.data / name for name, *_ in o.sets), *pair(o.data, "unlabelled")],
            commands=[*render_sets(o), *(unlabelled(o, part) for part in ("train", "dev"))],
            settings=format | {"on_the_fly": "on_the_fly" in o.extras},
            skip=shared,
            keeps=True,
        ),
    ]


def _without_labels(o: MixtureOptions) -> list[Stage]:
    """The method itself: teacher, pseudo-targets, student."""
    sets, seed = [o.data / "train", o.data / "dev"], {"train_seed": o.train_seed}
    return [
        Stage(
            "teacher",
            "MixIT on mixtures of unlabelled mixtures",
            reads=sets,
            makes=[o.exp / "teacher"],
            commands=[train(o, "teacher", "teacher", pair(o.data, "unlabelled"))],
            settings=o.settings_of("teacher") | seed,
        ),
        Stage(
            "pseudo",
            "the teacher labels the unlabelled mixtures",
            reads=[*sets, o.exp / "teacher" / MODEL],
            makes=pair(o.labels, "pseudo"),
            commands=label(o, "teacher", "pseudo"),
            settings=o.settings_of("pseudo"),
        ),
        Stage(
            "student",
            "PIT on remixes of the labels: the teacher's, then those of the student before",
            reads=[*pair(o.labels, "pseudo"), *sets, *beginning(o)],
            makes=[*o.generations[:-1], o.exp / "student"],
            commands=[command for n in range(len(o.generations)) for command in generation(o, n)],
            settings=o.settings_of("student", "distill") | seed | {"generations": len(o.generations)},
        ),
        _controls(o, sets, seed),
    ]


def _controls(o: MixtureOptions, sets: list[Path], seed: dict) -> Stage:
    """What each part of the method is worth: the same with one of them changed."""
    makes, confs = [o.exp / name for name in o.controls], {*o.controls} - {"student_blind"}
    if "student_blind" in o.controls:
        makes, confs = [*makes, *pair(o.labels, "blind")], confs | {"student", "pseudo_blind"}
    return Stage(
        "controls",
        "students with another network, on the labels themselves, or without a teacher",
        reads=[*pair(o.labels, "pseudo"), *sets],
        makes=makes,
        commands=[command for name in o.controls for command in control(o, name)],
        settings=o.settings_of(*sorted(confs)) | seed,
        beside=True,
        skip="" if o.controls else "there are none for one microphone, for drawn arrays, or with --network",
    )


def _with_labels(o: MixtureOptions) -> list[Stage]:
    """Few labels, and what supervised training reaches."""
    sets, small = [o.data / "train", o.data / "dev"], pair(o.labels, "small")
    student, finetuned = o.exp / "student" / MODEL, o.exp / "student_ft" / MODEL
    seed, share = {"train_seed": o.train_seed}, o.size["shares"]["small"]
    no_labels = "--with unsupervised uses no labels" if "unsupervised" in o.extras else ""
    networks = o.settings_of("distill", "student", "cotrained", "full", "finetune", "small")
    return [
        Stage(
            "labels",
            "the few labelled mixtures, drawn by the seed of training",
            reads=[*sets, o.data / o.pool],
            makes=small,
            commands=keep_labels(o, share, "small"),
            settings=seed | {"share": share},
            beside=True,
            skip=no_labels,
        ),
        Stage(
            "baselines",
            "supervised training on the few labels and on all",
            reads=[*sets, o.data / o.pool, *small],
            makes=[o.exp / "supervised_small", o.exp / "supervised_full"],
            commands=[
                train(o, "supervised_small", "small", small),
                train(o, "supervised_full", "full", [o.data / o.pool, o.data / "dev"]),
            ],
            settings=o.settings_of("small", "full") | seed,
            beside=True,
            skip=no_labels,
        ),
        Stage(
            "finetune",
            "the student on the few true labels",
            reads=[*sets, *small, student],
            makes=[o.exp / "student_ft"],
            commands=[train(o, "student_ft", "finetune", small, student)],
            settings=o.settings_of("finetune") | seed,
            beside=True,
            skip=no_labels,
        ),
        Stage(
            "distill",
            "the fine-tuned student labels the mixtures for a fresh one",
            reads=[*sets, *small, finetuned, *beginning(o)],
            makes=[*pair(o.labels, "distill"), o.exp / "distilled", o.exp / "distilled_ft"],
            commands=[
                *label(o, "student_ft", "distill"),
                train(o, "distilled", "student", pair(o.labels, "distill")),
                train(o, "distilled_ft", "finetune", small, o.exp / "distilled" / MODEL),
            ],
            settings=o.settings_of("distill", "student", "finetune") | seed,
            beside=True,
            skip=no_labels,
        ),
        Stage(
            "curve",
            "co-training, and other shares of the labels: fine-tuned, co-trained, distilled, supervised",
            reads=[*sets, *small, student, *beginning(o)],
            makes=[o.exp / "cotrained", o.exp / "curve"],
            commands=[
                cotrain(o, "cotrained", small[0]),
                *(command for share in o.shares for command in on_share(o, share)),
            ],
            settings=networks | seed | {"shares": o.shares},
            beside=True,
            skip="" if "curve" in o.extras else "--with curve runs it",
        ),
    ]


def _recognisers(o: MixtureOptions) -> list[Stage]:
    """Recognisers of one channel, and the joint training."""
    small, sets, parts = pair(o.labels, "small"), [o.data / "train", o.data / "dev"], ("train", "dev")
    made = [o.data / f"asr_{part}{end}" for part in parts for end in ("", "_rooms1", "_rooms2")]
    made += [o.data / "read_aloud"] if o.size["read_aloud"] else []
    seeds = {"seed": o.seed, "allow_unknown": o.allow_unknown}
    rooms = {name: o.size[name] for name in ("asr_rooms", "read_aloud")}
    rooms["audio_format"] = o.recipe["audio_format"]
    given = "another recogniser was given" if o.given_asr else ""
    return [
        Stage(
            "asr",
            "a recogniser of single talkers, in rooms of their own",
            reads=[o.speech / o.pool, o.speech / "dev"],
            makes=[o.data / "scenes_asr", *made, o.exp / "asr"],
            commands=[*asr_sets(o), train_asr(o, "asr", [o.data / "asr_train", o.data / "asr_dev"])],
            settings=o.settings_of("scenes", "asr") | seeds | rooms,
            beside=True,
            skip=given or (f"that of {o.first} is used" if o.again else ""),
        ),
        Stage(
            "retrain",
            "a second recogniser, of the student's streams",
            reads=[
                *sets,
                *small,
                *(o.speech / part for part in parts),
                *model(o.exp / "student"),
                *model(o.exp / "asr"),
            ],
            makes=[
                *(o.exp / f"{kind}{part}" for kind in ("separated/", "decoded_") for part in parts),
                *(o.data / f"asr_{part}_separated" for part in parts),
                o.exp / "asr_separated",
            ],
            commands=[
                *(command for part in parts for command in separated_set(o, part)),
                train_asr(
                    o,
                    "asr_separated",
                    [o.data / f"asr_{part}_separated" for part in parts],
                    token_list=o.exp / "asr/tokens.txt",
                    init_param=o.exp / "asr" / MODEL,
                ),
            ],
            settings=o.settings_of("systems", "asr", "decode") | seeds,
            beside=True,
            skip="" if "retrain" in o.extras else "--with retrain runs it",
        ),
        Stage(
            "joint",
            "separator and recogniser fine-tuned together on the few labels",
            reads=[*small, *model(o.exp / "student_ft"), *model(o.exp / "asr")],
            makes=[o.exp / "joint"],
            commands=[
                o.words(
                    """train joint --config {conf_joint} --separator {exp}/student_ft --asr {exp}/asr
                    --train_set {labels}/train_small --valid_set {labels}/dev_small
                    --output_dir {exp}/joint --seed {seed} --ngpu {ngpu} --num_threads {threads}
                    --allow_unknown {unknown}"""
                )
            ],
            settings=o.settings_of("joint") | seeds,
            beside=True,
            skip="" if "joint" in o.extras else "--with joint runs it",
        ),
    ]


def _streams(o: MixtureOptions) -> list[Stage]:
    """The test sets separated and scored."""
    models = ["teacher", *(path.name for path in o.generations), *o.controls]
    if "unsupervised" not in o.extras:
        models += ["student_ft", "distilled", "distilled_ft", "supervised_small", "supervised_full"]
    further = [o.exp / "joint" / MODEL, *(path / MODEL for path in sorted((o.exp / "curve").glob("*")))]
    tests, separated = [o.data / name for name in TESTS], [o.exp / "separated" / name for name in TESTS]
    score = """score --data {data}/test --separated {exp}/separated/test --single_data {data}/test_1spk
        --single_separated {exp}/separated/test_1spk --out {exp}/scores --nj {nj}"""
    return [
        Stage(
            "separate",
            "the test sets by every system, trained or blind",
            reads=[*tests, *(o.exp / name / MODEL for name in models), *filter(o.there, further)],
            makes=separated,
            commands=[
                separate(o, tests[0], separated[0]),
                separate(o, tests[1], separated[1], only="models"),
            ],
            settings=o.settings_of("systems") | packaged(o),
            keeps=True,
        ),
        Stage(
            "score",
            "SI-SNR, SDR, STOI, PESQ, over-separation",
            reads=[*separated, *tests],
            makes=[o.exp / "scores"],
            # What compares training seeds reads SI-SNR; PESQ and STOI take longer than all else.
            commands=[o.words(score, measures="" if o.again else None)],
            keeps=True,
        ),
    ]


def _words(o: MixtureOptions) -> list[Stage]:
    """The streams of the test set recognised, and the errors counted."""
    ends = ("", "_separated") if "retrain" in o.extras else ("",)
    known = o.recogniser_files() if o.given_asr else model(o.first / "asr")
    own = [path for path in model(o.exp / "joint/asr") if o.there(path)]
    again = [o.exp / f"asr{end}" / MODEL for end in ends[1:]]
    wer = "wer --data {data}/test --decoded {exp}/decoded{end} --out {exp}/wer{end} --seed {seed} --nj {nj}"
    settings = {"recogniser": o.given_asr, "allow_unknown": o.allow_unknown}
    return [
        Stage(
            "decode",
            "streams, mixtures, true images and dry speech to words",
            reads=[o.exp / "separated/test", o.data / "test", o.speech / "test", *known, *own, *again],
            makes=[o.exp / f"decoded{end}" for end in ends],
            commands=[
                decode(o, "test", o.exp / "decoded", **o.recogniser),
                *(
                    decode(o, "test", o.exp / f"decoded{e}", asr=o.exp / f"asr{e}", shared=True)
                    for e in ends[1:]
                ),
            ],
            settings=o.settings_of("systems", "decode") | settings,
            keeps=True,
        ),
        Stage(
            "wer",
            "cpWER of every system, with alignments",
            reads=[o.data / "test", *(o.exp / f"decoded{end}" for end in ends)],
            makes=[o.exp / f"wer{end}" for end in ends],
            commands=[o.words(wer, end=end) for end in ends],
            settings={"seed": o.seed},
            keeps=True,
        ),
    ]


def _elsewhere(o: MixtureOptions) -> list[Stage]:
    """Test sets of other arrays, rooms and noise."""
    off = "" if "mismatch" in o.extras else "--with mismatch runs it"
    names, rows = ([], []) if off else (["matched", *o.conditions], rows_of(o))
    others = [] if o.again else [path for path in o.experiments() if path != o.exp]
    number = {"num": o.size["mixtures"]["test"], "audio_format": o.recipe["audio_format"]}
    return [
        Stage(
            "conditions",
            "test sets of other arrays, rooms and noise, by trained and blind systems",
            reads=[o.speech / "test", o.exp / "student" / MODEL],
            makes=[o.data / "conditions", o.exp / "mismatch"],
            commands=[command for name in names for command in in_condition(o, name, rows)],
            settings=o.settings_of("scenes", "conditions", "systems") | o.drawing | number | packaged(o),
            skip=off,
            keeps=True,
        ),
        Stage(
            "mismatch",
            "what the student loses there, and with other numbers of microphones",
            reads=[
                *(o.exp / "mismatch" / name / "scores" for name in names),
                *(path / "scores" for path in others),
            ],
            makes=[o.results / "MISMATCH.md", o.results / "mismatch.json"],
            commands=[
                o.words(
                    """report --conditions {conf_conditions} --exp {exp} --systems {conf_systems}
                    --out {results}""",
                    microphones=others,
                )
            ],
            settings=o.settings_of("systems", "conditions"),
            skip=off,
            keeps=True,
        ),
    ]


def _report(o: MixtureOptions) -> Stage:
    """The table: all numbers of microphones that were run stand in one."""
    tested = o.experiments()
    configs = "scenes teacher pseudo student distill systems decode asr".split()
    configs += ["joint"] if "joint" in o.extras else []
    labels = [
        Path("data", path.name, f"train_{kind}/quality.json")
        for path in tested
        for kind in ("pseudo", "distill")
    ]
    counted = [path / f"wer{end}" for path in tested for end in ("", "_separated")]
    return Stage(
        "report",
        "the table, and a page to listen to",
        reads=[*(path / "scores" for path in tested), *filter(o.there, counted)],
        makes=[*(o.results / name for name in PAGES), tested[0] / "report"],
        commands=[
            o.words(
                "report --systems {conf_systems} --out {results} --listen {page}",
                page=tested[0] / "report",
                quick=o.size_name in ("quick", "tiny"),
                **{
                    "exp": tested,
                    "config": [o.conf(name) for name in configs],
                    "quality": [*filter(o.there, labels)],
                },
            )
        ],
        settings=o.settings_of(*configs),
        keeps=True,
    )
