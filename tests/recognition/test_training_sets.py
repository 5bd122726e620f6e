"""Kaldi sets for a recogniser: of dry speech and rooms, and of separated streams."""

from pathlib import Path

import numpy as np
import pytest
from speech_sets import make_speech, voice
from words import distance

from frontend.data.kaldi import read_scp, validate, write_scp, write_set
from frontend.data.writers import AudioWriter
from frontend.recognition.training_sets import _assign, make_asr_set, make_separated_set
from frontend.utils.errors import UserError

FS = 8000


def make_mixtures(path: Path, texts: list[list[str]], channels: int = 1, speakers=None) -> Path:
    """A mixture set without images: what each talker says is all that is known of them."""
    with AudioWriter(path / "wav", "wav", FS) as writer:
        wav = {
            f"m{i}": writer.write(f"m{i}", np.tile(voice(f"m{i}", 0.5), (channels, 1)))
            for i in range(len(texts))
        }
    tables = {f"text_spk{k + 1}": {f"m{i}": t[k] for i, t in enumerate(texts)} for k in range(len(texts[0]))}
    scenes = None
    if speakers:
        scenes = [{"id": f"m{i}", "talkers": [{"speaker": s} for s in who]} for i, who in enumerate(speakers)]
    write_set(path, {"wav.scp": wav, **tables}, records=scenes)
    return path


@pytest.fixture
def speech(tmp_path):
    return make_speech(tmp_path / "speech", speakers=3, each=2, seconds=0.3)


class TestDryAndRooms:
    def test_every_utterance_of_both_under_its_own_id(self, tmp_path, speech):
        rooms = make_mixtures(tmp_path / "rooms", [["ONE"], ["TWO"]], speakers=[["s02"], ["s00"]])
        out = tmp_path / "asr"
        assert make_asr_set([speech], [rooms], out) == 8
        assert validate(out) == []
        text, wav, utt2spk = (read_scp(out / name) for name in ("text", "wav.scp", "utt2spk"))
        assert text["s02-room1-m0_1"] == "ONE" and text["s00-room1-m1_1"] == "TWO"
        assert text["s00-dry-s00-00"] == "words of s00-00"
        assert utt2spk["s02-room1-m0_1"] == utt2spk["s02-dry-s02-01"] == "s02"
        assert wav["s02-room1-m0_1"] == read_scp(rooms / "wav.scp")["m0"]
        assert wav["s01-dry-s01-00"] == read_scp(speech / "wav.scp")["s01-00"]

    def test_several_speech_sets_may_share_ids(self, tmp_path, speech):
        rooms = make_mixtures(tmp_path / "rooms", [["ONE"]], speakers=[["s02"]])
        other = make_speech(tmp_path / "other", speakers=3, each=1, seconds=0.4)
        out = tmp_path / "asr"
        assert make_asr_set([speech, other], [rooms], out) == 6 + 3 + 1
        assert validate(out) == []
        wav = read_scp(out / "wav.scp")
        assert wav["s01-dry-s01-00"] == read_scp(speech / "wav.scp")["s01-00"]
        assert wav["s01-dry2-s01-00"] == read_scp(other / "wav.scp")["s01-00"]

    def test_sorted_by_utterance_and_by_speaker_at_once(self, tmp_path):
        """Kaldi demands it; a speaker that begins as another does is where it goes wrong."""
        rng = np.random.default_rng(0)
        speech = tmp_path / "speech"
        names = ["a", "a-b", "a_b2", "a1", "a+c", "a.b", "B", "ab"]
        with AudioWriter(speech / "wav", "wav", FS) as writer:
            wav = {f"u{i}": writer.write(f"u{i}", 0.1 * rng.standard_normal(99)) for i in range(len(names))}
        tables = {"wav.scp": wav, "text": dict.fromkeys(wav, "ONE")}
        write_set(speech, tables, dict(zip(wav, names, strict=True)))
        rooms = make_mixtures(tmp_path / "rooms", [["ONE"]] * len(names), speakers=[[n] for n in names])
        make_asr_set([speech], [rooms], tmp_path / "asr")
        utt2spk = read_scp(tmp_path / "asr" / "utt2spk")
        assert list(utt2spk.values()) == sorted(utt2spk.values())
        assert all(utterance.startswith(f"{speaker}-") for utterance, speaker in utt2spk.items())
        assert len(set(utt2spk.values())) == len(names)
        utt2spk = read_scp(speech / "utt2spk")
        write_set(speech, tables, utt2spk | {"u7": "a-b2"})
        with pytest.raises(UserError, match=r"speakers a_b2 and a-b2 are one as a_b2"):
            make_asr_set([speech], [rooms], tmp_path / "asr")

    def test_of_several_talkers_the_images(self, tmp_path, speech):
        """A talker alone comes with the noise of the room, others as a perfect separator gives them."""
        rooms = make_mixtures(tmp_path / "rooms", [["ONE", "TWO"], ["SIX", ""]], speakers=[["a", "b"], ["c"]])
        for k in (1, 2):
            with AudioWriter(rooms / f"wav{k}", "wav", FS) as writer:
                images = {key: writer.write(key, voice(f"{key}{k}", 0.5)) for key in ("m0", "m1")}
            write_scp(rooms / f"spk{k}.scp", images)
        alone = make_mixtures(tmp_path / "alone", [["ONE"]], speakers=[["a"]])
        assert make_asr_set([speech], [alone, rooms], tmp_path / "asr") == 6 + 1 + 3
        wav, text = (read_scp(tmp_path / "asr" / name) for name in ("wav.scp", "text"))
        assert text["b-room2-m0_2"] == "TWO"
        for name, entry in (("a-room1-m0_1", alone / "wav/m0.wav"), ("c-room2-m1_1", rooms / "wav/m1.wav")):
            assert wav[name] == str(entry)
        assert wav["a-room2-m0_1"] == str(rooms / "wav1/m0.wav")
        assert wav["b-room2-m0_2"] == str(rooms / "wav2/m0.wav")

    @pytest.mark.parametrize(
        ("texts", "settings", "message"),
        [
            ([["ONE"], [""]], {}, r"text_spk1:2: utterance m1 has an empty transcript"),
            (
                [["ONE", "TWO"]],
                {},
                r"expected the image and the text of every talker, found 0 spkN.scp and 2",
            ),
            ([["ONE"]], {"channels": 2}, r"m0\.wav: expected one channel, found 2"),
            ([["ONE"]], {"speakers": [[]]}, r"scenes\.jsonl: m0: expected a talker for each text .* found 0"),
        ],
    )
    def test_wrong_rooms(self, tmp_path, speech, texts, settings, message):
        rooms = make_mixtures(tmp_path / "rooms", texts, **settings)
        with pytest.raises(UserError, match=message):
            make_asr_set([speech], [rooms], tmp_path / "asr")
        assert not (tmp_path / "asr").exists()

    def test_wrong_speech(self, tmp_path, speech):
        rooms = make_mixtures(tmp_path / "rooms", [["ONE"]])
        fast = make_speech(tmp_path / "fast", speakers=1, each=1, fs=16000)
        with pytest.raises(UserError, match=r"m0\.wav: expected 16000 Hz as in .*found 8000"):
            make_asr_set([fast], [rooms], tmp_path / "asr")
        for name, message in (
            ("utt2spk", r"utterance s01-00 of wav\.scp .*add its speaker"),
            ("text", r"id s01-00 of wav\.scp:3 is missing"),
        ):
            table = read_scp(speech / name)
            write_scp(speech / name, {k: v for k, v in table.items() if k != "s01-00"})
            with pytest.raises(UserError, match=f"{name}: {message}"):
                make_asr_set([speech], [rooms], tmp_path / "asr")
            write_scp(speech / name, table)


class TestSeparated:
    def make(self, tmp_path, texts, hypotheses, n_streams=2):
        data = make_mixtures(tmp_path / "data", texts)
        streams, decoded = tmp_path / "streams", tmp_path / "decoded"
        wav = read_scp(data / "wav.scp")
        for k in range(n_streams):
            with AudioWriter(streams / f"wav{k}", "wav", FS) as writer:
                entries = {key: writer.write(key, voice(f"{key}{k}", 0.5)) for key in wav}
            write_scp(streams / f"spk{k + 1}.scp", entries)
            write_scp(decoded / f"text_spk{k + 1}", {f"m{i}": h[k] for i, h in enumerate(hypotheses)})
        out = tmp_path / "asr"
        return (data, streams, decoded, out), make_separated_set(data, streams, decoded, out)

    def test_fewest_errors_decide(self, tmp_path):
        texts = [["ONE TWO", "FIVE SIX SIX"], ["ONE TWO", "FIVE SIX"], ["SEVEN", "EIGHT NINE"]]
        hypotheses = [["ONE TOO", "FIVE SIX"], ["FIVE", "ONE"], ["NINE", ""]]
        (_, streams, _, out), counts = self.make(tmp_path, texts, hypotheses)
        assert counts == (6, 0)
        text, wav = read_scp(out / "text"), read_scp(out / "wav.scp")
        chosen = {key: Path(entry).parent.name for key, entry in wav.items()}
        assert chosen == {
            "m0_1-sep-m0_1": "wav0",
            "m0_2-sep-m0_2": "wav1",
            "m1_1-sep-m1_1": "wav1",
            "m1_2-sep-m1_2": "wav0",
            "m2_1-sep-m2_1": "wav1",
            "m2_2-sep-m2_2": "wav0",
        }
        assert text["m1_1-sep-m1_1"] == "ONE TWO"  # the reference, not the hypothesis
        assert validate(out) == []

    def test_undecided_mixtures_are_left_out(self, tmp_path):
        texts = [["ONE TWO", "FIVE SIX"], ["ONE", "TWO"], ["ONE", "TWO"]]
        hypotheses = [["", ""], ["ONE", "ONE"], ["TWO", "ONE"]]
        assert self.make(tmp_path, texts, hypotheses)[1] == (2, 2)

    def test_mixtures_that_are_left_out(self, tmp_path):
        texts = [["ONE", "TWO"], ["FIVE", "SIX"]]
        (data, streams, decoded, out), counts = self.make(tmp_path, texts, texts)
        assert counts == (4, 0)
        small = make_mixtures(tmp_path / "small", texts[:1])
        assert make_separated_set(data, streams, decoded, out, small) == (2, 0)
        assert set(read_scp(out / "text").values()) == {"FIVE", "SIX"}

    def test_one_talker_has_one_stream(self, tmp_path):
        (*_, out), counts = self.make(tmp_path, [["ONE TWO", ""]], [["", "ONE"]])
        assert counts == (1, 0)
        assert Path(next(iter(read_scp(out / "wav.scp").values()))).parent.name == "wav1"

    def test_more_streams_than_talkers(self, tmp_path):
        (*_, out), counts = self.make(tmp_path, [["ONE", "TWO"]], [["", "TWO", "ONE"]], n_streams=3)
        assert counts == (2, 0)
        assert [Path(e).parent.name for e in read_scp(out / "wav.scp").values()] == ["wav2", "wav1"]

    def test_one_stream_of_two_talkers(self, tmp_path):
        """The talker whose words were recognised gets it."""
        (*_, out), counts = self.make(tmp_path, [["ONE", "TWO THREE"]], [["TWO"]], n_streams=1)
        assert counts == (1, 0)
        assert list(read_scp(out / "text").values()) == ["TWO THREE"]

    def test_errors(self, tmp_path):
        paths, _ = self.make(tmp_path, [["ONE", "TWO"]], [["ONE", "TWO"]])
        data, streams, decoded, out = paths
        good = {p: p.read_text() for p in (decoded / "text_spk1", decoded / "text_spk2")}
        for spoil, message in (
            (lambda: [write_scp(p, {"m7": "ONE"}) for p in good], r"decoded: no hypotheses of utterance m0"),
            (
                lambda: (decoded / "text_spk2").unlink(),
                r"m0: one hypothesis per stream expected, found 2 str",
            ),
            (
                lambda: [write_scp(p, {"m0": "TEN"}) for p in good],
                r"in no mixture of .* decide .* \(train .* longer, or leave --with retrain out\)",
            ),
            (lambda: (data / "text_spk1").unlink() or (data / "text_spk2").unlink(), r"expected text_spk1"),
        ):
            spoil()
            with pytest.raises(UserError, match=message):
                make_separated_set(*paths)
            for path, text in good.items():
                path.write_text(text)


class TestCommand:
    def test_both_ways(self, tmp_path, speech, command):
        rooms = make_mixtures(tmp_path / "rooms", [["ONE"]])
        out = tmp_path / "out"
        sets = ["--speech", speech, "--rooms", rooms]
        code, printed, _ = command("data recogniser", *sets, "--out", out)
        assert code == 0 and "7 utterances" in printed
        (data, streams, decoded, _), _ = TestSeparated().make(tmp_path, [["ONE", "TWO"]], [["ONE", "TWO"]])
        three = ["--data", data, "--streams", streams, "--decoded", decoded]
        code, printed, _ = command("data recogniser", "--separated", *three, "--out", out)
        assert code == 0 and "2 streams" in printed and "0 mixtures left out" in printed
        for wrong, message in (
            ([*sets[:2]], "--rooms: expected a value, found none"),
            ([*sets, *three[:2]], "--data is not expected without --separated"),
            (["--separated", *three[:4]], "--decoded: expected a value, found none"),
        ):
            code, _, error = command("data recogniser", *wrong, "--out", out)
            assert code == 2 and message in error


def test_a_tie_is_what_brute_force_says():
    """All ways to give streams to talkers, counted one by one."""
    rng = np.random.default_rng(3)
    words = ["A", "B", "C"]

    def draw(n):
        return [" ".join(rng.choice(words, rng.integers(0, 3))) for _ in range(n)]

    for _ in range(60):
        texts, hypotheses = draw(2), draw(rng.integers(1, 4))
        if not any(texts):
            continue
        assert _assign(texts, hypotheses) == slow_assignment(texts, hypotheses)


def slow_assignment(texts, hypotheses):
    talkers = [k for k, text in enumerate(texts) if text]
    ways = {}
    for code in range((len(hypotheses) + 1) ** len(talkers)):
        way, rest = [], code
        for _ in talkers:
            rest, digit = divmod(rest, len(hypotheses) + 1)
            way.append(None if digit == len(hypotheses) else digit)
        given = [s for s in way if s is not None]
        if len(given) != len(set(given)) or len(given) != min(len(talkers), len(hypotheses)):
            continue
        total = sum(
            distance(texts[k].split(), [] if s is None else hypotheses[s].split())
            for k, s in zip(talkers, way, strict=True)
        )
        total += sum(len(h.split()) for s, h in enumerate(hypotheses) if s not in given)
        ways[tuple(way)] = total
    best = [way for way, total in ways.items() if total == min(ways.values())]
    if len(best) > 1:
        return None
    return {k: s for k, s in zip(talkers, best[0], strict=True) if s is not None}
