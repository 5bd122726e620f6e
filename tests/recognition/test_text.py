"""One form of a text; cpWER, cpCER and ORC-WER of a recording against brute force; alignments."""

import itertools
import random

import pytest
from words import distance, sentence

from frontend.recognition.text import KINDS, RULES, align, mark, normalise, readable, utterance_errors

# --- the normaliser


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", "ONE TWO"),
        ("one,two - three-four.", "ONE TWO THREE FOUR"),
        ("don\u2019t DON'T don`t", "DON'T DON'T DON'T"),
        ("rock 'n' roll, '90s' ''a''b''", "ROCK N ROLL 90S A B"),
        ("<noise> one [LAUGHTER] two<sp>", "ONE TWO"),
        ("one<unk> [unk] <UNK>", "ONE <UNK> <UNK> <UNK>"),
        ("[background noise]", "BACKGROUND NOISE"),
        ("cafe\u0301 \uff21\uff22 \u00bd", "CAF\u00c9 AB 1\u20442"),
        ("one\u00a0two\u3000three\tfour\n", "ONE TWO THREE FOUR"),
        ("zero\u200bwidth so\u00adft", "ZEROWIDTH SOFT"),
        ("1 + 1 50%", "1 + 1 50"),
        (" ... ", ""),
        ("", ""),
    ],
)
def test_one_form_of_a_text(text, expected):
    assert normalise(text) == expected == normalise(expected)


def test_rules_are_sentences():
    assert len(RULES) >= 5 and all(isinstance(rule, str) and rule for rule in RULES)


# --- one recording


def brute_cp(references, hypotheses):
    """Errors of the best of all permutations, the shorter side filled with silence."""
    n = max(len(references), len(hypotheses))
    references = [t.split() for t in references] + [[]] * (n - len(references))
    hypotheses = [t.split() for t in hypotheses] + [[]] * (n - len(hypotheses))
    costs = [[distance(r, h) for h in hypotheses] for r in references]
    return min(sum(costs[i][k] for i, k in enumerate(order)) for order in itertools.permutations(range(n)))


def brute_orc(references, hypotheses):
    """Errors of the best way to give each talker any stream; those of one stream speak in turn."""
    best = None
    for choice in itertools.product(range(len(hypotheses)), repeat=len(references)):
        total = 0
        for k, hypothesis in enumerate(hypotheses):
            words = [w for r, c in zip(references, choice, strict=True) if c == k for w in r.split()]
            total += distance(words, hypothesis.split())
        best = total if best is None else min(best, total)
    return best


@pytest.mark.parametrize("talkers", [1, 2, 3])
@pytest.mark.parametrize("streams", [0, 1, 2, 3, 4])
def test_errors_are_the_fewest_of_all_permutations(talkers, streams):
    rng = random.Random(10 * talkers + streams)
    for _ in range(40):
        references = [sentence(rng, 5, least=1) for _ in range(talkers)]
        hypotheses = [sentence(rng, 5) for _ in range(streams)]
        row = utterance_errors(references, hypotheses)
        assert row["errors"] == brute_cp(references, hypotheses) == sum(row[kind] for kind in KINDS)
        assert row["words"] == sum(len(r.split()) for r in references)
        # the assignment it names has just these errors
        given = [
            (r, "" if k is None else hypotheses[k])
            for r, k in zip(references, row["assignment"], strict=True)
        ]
        given += [("", hypotheses[k]) for k in row["surplus"]]
        assert sum(distance(r.split(), h.split()) for r, h in given) == row["errors"]
        used = [k for k in row["assignment"] if k is not None]
        assert sorted(used + row["surplus"]) == list(range(streams))
        assert (row["orc"] is None) == (streams in (0, talkers))


@pytest.mark.parametrize(("talkers", "streams"), [(1, 1), (2, 2), (2, 1), (2, 3), (3, 3)])
def test_errors_of_characters_are_those_of_words_of_one_letter(talkers, streams):
    rng = random.Random(talkers + 7 * streams)
    for _ in range(40):
        references = [sentence(rng, 4, least=1) for _ in range(talkers)]
        hypotheses = [sentence(rng, 4) for _ in range(streams)]
        spelt = [[" ".join(text.replace(" ", "")) for text in texts] for texts in (references, hypotheses)]
        found = utterance_errors(references, hypotheses)["characters"]
        assert found["errors"] == brute_cp(*spelt) == sum(found[kind] for kind in KINDS)
        assert found["characters"] == sum(len(text.split()) for text in spelt[0])


def test_characters_do_not_mind_blanks_and_an_unknown_word_is_one():
    row = utterance_errors(["no one", "ten"], ["noone", "te n"])
    assert row["errors"] == 3 and row["characters"]["errors"] == 0
    assert utterance_errors(["ten"], ["<unk>"])["characters"]["errors"] == 3
    # the streams of fewest word errors need not be those of fewest wrong characters
    row = utterance_errors(["a abcdef", "b"], ["a b", "abcdeg"])
    assert (row["assignment"], row["errors"], row["characters"]["errors"]) == ([0, 1], 2, 3)


@pytest.mark.parametrize(("talkers", "streams"), [(2, 4), (2, 3), (1, 4), (3, 2), (2, 5)])
def test_orc_errors_are_the_fewest_of_all_choices(talkers, streams):
    """Silent streams included, with which meeteval alone misses the optimum."""
    rng = random.Random(streams)
    for k in range(60):
        references = [sentence(rng, 4, least=1) for _ in range(talkers)]
        hypotheses = [sentence(rng, 4) for _ in range(streams)]
        if k == 0:
            hypotheses = [""] * streams
        orc = utterance_errors(references, hypotheses)["orc"]
        assert orc["errors"] == brute_orc(references, hypotheses) == sum(orc[kind] for kind in KINDS)
        by_stream = [[] for _ in hypotheses]
        for reference, stream in zip(references, orc["assignment"], strict=True):
            by_stream[stream] += reference.split()
        assert orc["errors"] == sum(map(distance, by_stream, [h.split() for h in hypotheses]))


def test_orc_errors_of_many_long_streams():
    """A recogniser babbles on the six outputs of a hard mixture: a search over all lengths would be 40^6."""
    rng = random.Random(0)
    references = [sentence(rng, 12, least=12) for _ in range(3)]
    hypotheses = [" ".join(sentence(rng, 8, least=8) for _ in range(5)) for _ in range(3)] + references
    orc = utterance_errors(references, hypotheses)["orc"]
    assert orc["errors"] == 120 == sum(orc[kind] for kind in KINDS), "each of the babbled words is one"


def test_silence_and_absence_are_deletions_surplus_is_inserted():
    assert utterance_errors(["A B", "C D"], ["", ""])["deletions"] == 4
    assert utterance_errors(["A B", "C D"], [])["deletions"] == 4
    row = utterance_errors(["A B", "C D"], ["C D"])
    assert (row["deletions"], row["assignment"]) == (2, [None, 0])
    row = utterance_errors(["A B"], ["X Y Z", "A B"])
    assert (row["insertions"], row["assignment"], row["surplus"]) == (3, [1], [0])
    assert row["orc"]["errors"] == 3
    assert utterance_errors(["a, b!"], ["A-B"])["errors"] == 0


def test_order_of_the_streams_does_not_matter():
    rng = random.Random(1)
    for _ in range(50):
        references = [sentence(rng, 6, least=1) for _ in range(2)]
        first, second = sentence(rng, 6), sentence(rng, 6)
        both = [utterance_errors(references, h)["errors"] for h in ([first, second], [second, first])]
        assert both[0] == both[1]


def test_meeteval_says_nothing(caplog, capfd):
    utterance_errors(["A B", "C"], ["A", "C", "D"])
    assert not caplog.records and capfd.readouterr() == ("", "")


# --- alignments


def test_alignments_show_what_was_counted():
    rng = random.Random(2)
    for _ in range(100):
        reference, hypothesis = sentence(rng, 6, least=1), sentence(rng, 6)
        pairs = align(reference, hypothesis)
        assert " ".join(a for a, _ in pairs if a) == reference
        assert " ".join(b for _, b in pairs if b) == hypothesis
        marks = [mark(pair) for pair in pairs]
        row = utterance_errors([reference], [hypothesis])
        assert [marks.count(m) for m in "IDS"] == [row[kind] for kind in KINDS]
    assert align("", "") == [] and align("* A", "A") == [("*", None), ("A", "A")]


def test_alignments_are_readable():
    row = {"id": "u1", **utterance_errors(["one two", "six seven eight"], ["six eleven", "", "one oh two"])}
    assert readable(row) == (
        "u1: 3 errors, 5 words (1 insertions 1 deletions 1 substitutions)\n"
        "  talker 1 = stream 3\n"
        "    REF ONE ** TWO\n"
        "    HYP ONE OH TWO\n"
        "            I\n"
        "  talker 2 = stream 1\n"
        "    REF SIX SEVEN  EIGHT\n"
        "    HYP SIX ELEVEN *****\n"
        "            S      D\n"
        "  surplus stream 2, silent\n"
    )
