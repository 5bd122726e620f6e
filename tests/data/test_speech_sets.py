"""Speech sets from any corpus: what is written, who is in which set, what is refused."""

import numpy as np
import pytest
import soundfile
from speech_sets import voice

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.data.speech import Spoken, check_out, evenly_by_talker, split_speakers, write_speech_sets
from frontend.utils.errors import UserError


def record(path, signal, fs: int = 16000) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, fs)
    return str(path)


@pytest.fixture
def sets(tmp_path) -> dict[str, list[Spoken]]:
    """Two talkers in each of two sets; a pause before and behind what they say."""
    made = {}
    for name, speakers in {"train": ("1", "12"), "test": ("2", "3")}.items():
        made[name] = []
        for speaker in speakers:
            pause = np.zeros(8000)
            signal = np.concatenate([pause, voice(speaker, 1.0, 16000), pause])
            source = record(tmp_path / "corpus" / f"{speaker}.flac", signal)
            made[name].append(Spoken(f"{speaker}-a", speaker, f"THIS IS {speaker}", source))
    return made


@pytest.mark.parametrize("fs", [8000, 16000])
def test_sets_are_resampled_trimmed_and_of_one_level(sets, tmp_path, fs):
    seconds = write_speech_sets(tmp_path / "out", sets, fs)
    for name in sets:
        assert validate(tmp_path / "out" / name) == []
        assert seconds[name] == pytest.approx(2 * 1.0, abs=0.25)  # of 2 s each, half are silence
        for entry in read_scp(tmp_path / "out" / name / "wav.scp").values():
            audio, rate = read_audio(entry)
            power = np.mean(
                audio[0, : len(audio[0]) // (fs // 100) * (fs // 100)].reshape(-1, fs // 100) ** 2, 1
            )
            loud = power > power.max() * 10**-3.5
            assert rate == fs and 10 * np.log10(power[loud].mean()) == pytest.approx(-26, abs=0.1)
    assert read_scp(tmp_path / "out" / "train" / "text") == {"1-a": "THIS IS 1", "12-a": "THIS IS 12"}
    assert read_scp(tmp_path / "out" / "train" / "spk2utt") == {"1": "1-a", "12": "12-a"}


def test_a_tone_stays_where_it_is_and_what_8_khz_cannot_hold_goes(tmp_path):
    time = np.arange(32000) / 16000
    source = record(
        tmp_path / "1.wav", 0.1 * np.sin(2 * np.pi * 1000 * time) + 0.1 * np.sin(2 * np.pi * 6000 * time)
    )
    write_speech_sets(tmp_path / "out", {"all": [Spoken("1-a", "1", "TONE", source)]}, 8000)
    audio, _ = read_audio(tmp_path / "out/all/wav/1-a.wav")
    power = np.abs(np.fft.rfft(audio[0, 4000:12000])) ** 2
    assert power.argmax() == 1000 and power[1000] / power.sum() > 0.999  # 6 kHz would fold to 2 kHz


def test_the_same_bits_for_any_number_of_processes(sets, tmp_path, monkeypatch):
    made = []
    for nj in (1, 2):
        (tmp_path / str(nj)).mkdir()
        monkeypatch.chdir(tmp_path / str(nj))
        write_speech_sets("out", sets, 8000, nj)
        made.append({str(p): p.read_bytes() for p in sorted((tmp_path / str(nj)).glob("out/*/**/*.wav"))})
    assert list(made[0].values()) == list(made[1].values()) and len(made[0]) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "a-1"}, "expected an id 'TALKER-...', found id a-1 of talker 1"),
        ({"id": "12-a", "speaker": "12"}, "id 12-a occurs twice"),
        ({"source": "nowhere.wav"}, "no such audio file"),
        ({"source": "silent.wav"}, "nothing but zeros"),
        ({"source": "stereo.wav"}, "expected 1 channel, found 2"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(sets, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "silent.wav", np.zeros(1600))
    record(tmp_path / "stereo.wav", np.full((1600, 2), 0.1))
    sets["train"][0] = Spoken(**(vars(sets["train"][0]) | changes))
    with pytest.raises(UserError, match=message):
        write_speech_sets("out", sets, 8000)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    with pytest.raises(UserError, match="set dev: expected utterances, found none"):
        write_speech_sets("out", {"dev": []}, 8000)


def test_talkers_are_split_by_group_whatever_their_order():
    groups = {f"{n:03d}": "f" if n % 4 == 0 else "m" for n in range(80)}
    shares = {"test": 0.2, "dev": 0.1, "train": 0.7}
    seen = set()
    for seed in range(4):
        parts = split_speakers(sorted(groups), groups, shares, seed)
        assert parts == split_speakers(sorted(groups, reverse=True), groups, shares, seed)
        assert sorted(s for part in parts.values() for s in part) == sorted(groups)
        assert {name: len(part) for name, part in parts.items()} == {"test": 16, "dev": 8, "train": 56}
        for part in parts.values():
            assert abs(sum(groups[s] == "f" for s in part) - len(part) / 4) <= 1
        seen.add(frozenset(parts["test"]))
    assert len(seen) == 4


def test_two_talkers_in_every_set_or_an_error():
    same = dict.fromkeys("abcdef", "")
    parts = split_speakers(list(same), same, {"test": 0.01, "dev": 0.98, "train": 0.01}, 0)
    assert {name: len(part) for name, part in parts.items()} == {"test": 2, "dev": 2, "train": 2}
    with pytest.raises(UserError, match="expected 6 talkers or more to split into test dev train, found 5"):
        split_speakers(list("abcde"), same, {"test": 0.2, "dev": 0.2, "train": 0.6}, 0)


def test_a_part_has_all_talkers_evenly():
    spoken = [Spoken(f"{who}-{n}", who, "", "") for who in "abc" for n in range(10 if who == "a" else 3)]
    taken = [evenly_by_talker(spoken, number, 0) for number in (3, 6, 9, 12, 99)]
    assert [sorted(u.speaker for u in part) for part in taken[:3]] == [
        list("abc"),
        list("aabbcc"),
        list("aaabbbccc"),
    ]
    for smaller, larger in zip(taken, taken[1:], strict=False):
        assert set(smaller) < set(larger)
    assert taken[-1] == sorted(spoken, key=lambda u: u.id)
    assert taken[1] == evenly_by_talker(spoken[::-1], 6, 0) != evenly_by_talker(spoken, 6, 1)


def test_only_speech_sets_are_replaced(tmp_path):
    check_out(tmp_path / "new", ("train",))
    (tmp_path / "train").mkdir()
    check_out(tmp_path, ("train",))
    (tmp_path / "thesis").write_text("x")
    with pytest.raises(UserError, match="holds thesis, which would be lost"):
        check_out(tmp_path, ("train",))
    with pytest.raises(UserError, match="expected a directory to make, found a file"):
        check_out(tmp_path / "thesis", ("train",))
