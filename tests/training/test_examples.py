"""Training examples: sums, levels, symmetries, and draws that depend on their key alone."""

import numpy as np
import pytest
import soundfile

from frontend.data.chunks import Chunk
from frontend.data.kaldi import write_set
from frontend.training.examples import CroppedSources, MixtureOfMixtures, Remixes
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

FS, MICS, CROP = 8000, 4, 0.5
SAMPLES = int(CROP * FS)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Six 4-channel recordings whose channels differ in level: 1, 2, 4, 8."""
    directory = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    entries, lengths = {}, {}
    for i in range(6):
        length = SAMPLES // 2 if i == 5 else 3 * SAMPLES + 100 * i  # the last is shorter than a crop
        audio = 0.02 * rng.standard_normal(length)[:, None] * 2.0 ** np.arange(MICS)
        soundfile.write(directory / f"u{i}.wav", audio, FS, subtype="FLOAT")
        for k in (1, 2):
            soundfile.write(directory / f"u{i}-{k}.wav", audio[:, 0] * k / 3, FS, subtype="FLOAT")
        entries[f"u{i}"], lengths[f"u{i}"] = str(directory / f"u{i}.wav"), length
    return entries, lengths


def mom(pool, train=True, **settings):
    entries, lengths = pool
    given = {"fs": FS, "crop": CROP, "n_mics": MICS, "array_symmetry": "circular"} | settings
    return MixtureOfMixtures(train, {"speech_mix": entries}, lengths=lengths, **given)


def crop(pool, train=True, **settings):
    given = {"fs": FS, "crop": CROP, "n_mics": MICS, "array_symmetry": "circular"} | settings
    return CroppedSources(train, lengths=pool[1], **given)


def remix(pool, train=True, **settings):
    entries, lengths = pool
    data = [sources(pool, utterance) for utterance in entries]
    tables = {name: dict(zip(entries, (one[name] for one in data), strict=True)) for name in data[0]}
    given = {"fs": FS, "crop": CROP, "n_mics": MICS, "array_symmetry": "any"} | settings
    return Remixes(train, tables, lengths=lengths, **given)


def sources(pool, utterance):
    entry = pool[0][utterance]
    return {"speech_mix": entry} | {f"speech_ref{k}": entry.replace(".wav", f"-{k}.wav") for k in (1, 2)}


def at(preprocessor, epoch, utterance="u0", data=None):
    preprocessor.set_epoch(epoch)
    return preprocessor(utterance, data or {})


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


class TestMixtureOfMixtures:
    @pytest.mark.parametrize("n", [2, 3])
    def test_references_sum_to_the_reference_channel(self, pool, n):
        example = at(mom(pool, n_mixtures=n), 1)
        assert example["speech_mix"].shape == (SAMPLES, MICS)
        references = [example[f"speech_ref{i}"] for i in range(1, n + 1)]
        assert len(example) == n + 1
        np.testing.assert_allclose(sum(references), example["speech_mix"][:, 0], atol=1e-5)

    def test_a_dead_microphone_is_never_the_reference(self, pool, tmp_path):
        entries = {}
        for name, path in pool[0].items():
            audio, _ = soundfile.read(path)
            audio[:, 2] = 0
            entries[name] = str(tmp_path / f"{name}.wav")
            soundfile.write(entries[name], audio, FS, subtype="FLOAT")
        preprocessor, references = mom((entries, pool[1])), set()
        for epoch in range(30):
            example = at(preprocessor, epoch)
            assert example["speech_ref1"].any() and example["speech_ref2"].any()
            references.add(tuple(example["speech_mix"].any(0)))
        assert len(references) > 1  # the array is turned nevertheless

    def test_levels(self, pool):
        """The first mixture has unit deviation, the second one within +-gain_db of it."""
        preprocessor = mom(pool, gain_db=6.0)
        levels = []
        for epoch in range(40):
            example = at(preprocessor, epoch)
            np.testing.assert_allclose(np.sqrt(np.mean(example["speech_ref1"] ** 2)), 1, rtol=1e-5)
            levels.append(10 * np.log10(np.mean(example["speech_ref2"] ** 2)))
        assert -6.001 <= min(levels) < -3 and 3 < max(levels) <= 6.001

    def test_partner_is_never_the_same_mixture(self, pool):
        preprocessor = mom(pool, n_mixtures=3)
        seen = set()
        for epoch in range(60):
            preprocessor.set_epoch(epoch)
            partners = preprocessor.partners("u2")
            assert len({"u2", *partners}) == 3
            seen.update(partners)
        assert seen == {"u0", "u1", "u3", "u4", "u5"}

    def test_partners_of_whole_mixtures_are_drawn_from_all_others(self, pool):
        """As ever: the draws of trainings that were made."""
        preprocessor = mom(pool)
        for utterance in pool[0]:
            (pick,) = generator(0, utterance, 0, "partners").choice(5, 1, replace=False)
            assert preprocessor.partners(utterance) == [sorted(set(pool[0]) - {utterance})[pick]]

    @pytest.mark.parametrize(
        "recordings", [{"a": 3, "b": 5, "a-0000000001": 4}, {"a": 9}, {"a": 3}, {"a": 2}]
    )
    def test_partners_of_chunks_are_strangers(self, recordings):
        """Of another recording; of the only recording, not beside the chunk unless nothing else is left."""
        every = [Chunk(name, 9 * k, 9 * k + 9) for name, count in recordings.items() for k in range(count)]
        table = {chunk.id: "x.wav" for chunk in reversed(every)}
        preprocessor = mom((table, dict.fromkeys(table, SAMPLES)), n_mics=1, array_symmetry="none")
        for chunk in every:
            expected = {c.id for c in every if c.recording != chunk.recording}
            expected = expected or {c.id for c in every if abs(c.start - chunk.start) > 9}
            expected = expected or {c.id for c in every} - {chunk.id}
            seen = set()
            for epoch in range(200):
                preprocessor.set_epoch(epoch)
                seen |= set(preprocessor.partners(chunk.id))
            assert seen == expected

    def test_channels_turn_together(self, pool):
        """Every channel order of a mixture is a rotation or reflection, and all eight occur."""
        preprocessor, orders = mom(pool), set()
        for epoch in range(100):
            preprocessor.set_epoch(epoch)
            audio = preprocessor._one("u0", 0, "u0")
            level = np.log2(np.sqrt((audio**2).mean(-1)))
            orders.add(tuple(np.round(level - level.min()).astype(int).tolist()))
        rotations = {tuple(np.roll(range(4), k).tolist()) for k in range(4)}
        assert orders == rotations | {o[::-1] for o in rotations}

    def test_crops_move_and_short_recordings_are_padded(self, pool):
        preprocessor = mom(pool)
        first = [at(preprocessor, epoch)["speech_ref1"][:3] for epoch in range(8)]
        assert len({x.tobytes() for x in first}) > 4
        short = at(preprocessor, 1, "u5")["speech_ref1"]
        assert short.shape == (SAMPLES,)
        assert short[: SAMPLES // 2].all() and not short[SAMPLES // 2 :].any()

    def test_one_microphone_and_silence(self, tmp_path):
        entries, lengths = {}, {}
        for name, level in (("a", 0.0), ("b", 0.1)):
            soundfile.write(tmp_path / f"{name}.wav", np.full(2 * SAMPLES, level), FS)
            entries[name], lengths[name] = str(tmp_path / f"{name}.wav"), 2 * SAMPLES
        example = at(mom((entries, lengths), n_mics=1), 1, "a")
        assert example["speech_mix"].shape == (SAMPLES,)
        assert not example["speech_ref1"].any()
        assert np.isfinite(example["speech_mix"]).all() and example["speech_ref2"].all()


class TestCroppedSources:
    def test_mixture_and_references_stay_in_step(self, pool):
        preprocessor = crop(pool, gain_db=3.0)
        for epoch in range(5):
            example = at(preprocessor, epoch, "u1", sources(pool, "u1"))
            total = example["speech_ref1"] + example["speech_ref2"]
            np.testing.assert_allclose(total, example["speech_mix"][:, 0], rtol=1e-4, atol=1e-6)
            assert abs(10 * np.log10(np.mean(total**2))) < 3.001

    def test_reference_microphone_stays_in_place(self, pool):
        preprocessor, orders = crop(pool), set()
        for epoch in range(30):
            audio = at(preprocessor, epoch, "u1", sources(pool, "u1"))["speech_mix"]
            level = np.log2(np.sqrt((audio**2).mean(0)))
            orders.add(tuple(np.round(level - level[0]).astype(int).tolist()))
        assert orders == {(0, 1, 2, 3), (0, 3, 2, 1)}


class TestRemixes:
    @pytest.fixture(scope="class")
    def voices(self, tmp_path_factory):
        """Four recordings of two tones each, that no other has; the labels are the tones, too weak."""
        directory = tmp_path_factory.mktemp("voices")
        time, entries = np.arange(3 * SAMPLES) / FS, {}
        for i in range(4):
            tones = [np.sin(2 * np.pi * (250 + 375 * (2 * i + k)) * time) for k in (0, 1)]
            audio = np.outer(sum(tones), 0.1 * np.arange(1, MICS + 1))
            soundfile.write(directory / f"v{i}.wav", audio, FS, subtype="FLOAT")
            for k, tone in enumerate(tones, 1):
                soundfile.write(directory / f"v{i}-{k}.wav", 0.01 * tone, FS, subtype="FLOAT")
            entries[f"v{i}"] = str(directory / f"v{i}.wav")
        return entries, dict.fromkeys(entries, 3 * SAMPLES)

    @staticmethod
    def tones(signal):
        """Return the numbers of the tones that sound in (T,)."""
        spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
        power = [spectrum[round((250 + 375 * n) * CROP)] for n in range(8)]
        return [n for n in range(8) if power[n] > 0.1 * max(power)]

    def test_an_example_is_the_sum_of_one_image_of_each_of_two_mixtures(self, voices):
        preprocessor, seen = remix(voices, one_talker=0.0), set()
        for epoch in range(12):
            example = at(preprocessor, epoch, "v1", sources(voices, "v1"))
            assert example["speech_mix"].shape == (SAMPLES, MICS)
            references = [example["speech_ref1"], example["speech_ref2"]]
            np.testing.assert_allclose(sum(references), example["speech_mix"][:, 0], atol=1e-5)
            (first,), (second,) = map(self.tones, references)
            assert first // 2 == 1 and second // 2 != 1
            seen |= {first, second}
        assert len(seen) > 4

    def test_images_are_at_all_microphones_which_are_shuffled(self, voices):
        preprocessor = remix(voices, one_talker=1.0)
        ratios = set()
        for epoch in range(10):
            example = at(preprocessor, epoch, "v1", sources(voices, "v1"))
            mixture = example["speech_mix"]
            levels = np.sqrt((mixture**2).mean(0))
            assert sorted(np.round(levels / levels.min(), 2)) == [1, 2, 3, 4]
            assert levels[0] == pytest.approx(1, rel=1e-3)  # at the reference
            ratios.add(round(float(levels[0] / levels.min())))
            np.testing.assert_allclose(example["speech_ref1"], mixture[:, 0], atol=1e-6)
            assert not example["speech_ref2"].any()
        assert len(ratios) > 1

    def test_as_is_it_is_the_mixture_and_its_labels(self, voices):
        example = at(remix(voices, as_is=1.0, one_talker=0.0), 1, "v2", sources(voices, "v2"))
        mixture = example["speech_mix"]
        np.testing.assert_allclose(
            mixture / mixture[:, :1] * np.ones(4), np.arange(1, 5) * np.ones((SAMPLES, 1)), rtol=1e-3
        )
        assert self.tones(example["speech_ref1"]) == [4] and self.tones(example["speech_ref2"]) == [5]
        assert np.std(example["speech_ref1"]) == pytest.approx(
            0.1 * np.std(mixture[:, 0]) / np.sqrt(2), rel=0.05
        )

    def test_only_microphones_that_both_have_sound(self, voices, tmp_path):
        """A channel with one talker alone would separate them."""
        entries = dict(voices[0])
        for name in ("v0", "v2", "v3"):
            audio, _ = soundfile.read(entries[name])
            soundfile.write(tmp_path / f"{name}.wav", audio[:, :2], FS, subtype="FLOAT")
            for k in (1, 2):
                label, _ = soundfile.read(entries[name].replace(".wav", f"-{k}.wav"))
                soundfile.write(tmp_path / f"{name}-{k}.wav", label, FS, subtype="FLOAT")
            entries[name] = str(tmp_path / f"{name}.wav")
        preprocessor = remix((entries, voices[1]), one_talker=0.0, fewer_mics=True)
        example = at(preprocessor, 1, "v1", sources((entries, None), "v1"))
        assert example["speech_mix"].any(0).tolist() == [True, True, False, False]
        mixture = at(mom((entries, voices[1]), fewer_mics=True, array_symmetry="any"), 1, "v1")["speech_mix"]
        assert mixture.any(0).tolist() == [True, True, False, False]
        circular = {"fewer_mics": True, "array_symmetry": "circular"}
        pooled = entries, voices[1]
        for turned in (mom(pooled, **circular), remix(pooled, one_talker=0.0, **circular)):
            for epoch in range(8):
                live = at(turned, epoch, "v1")["speech_mix"].any(0).tolist()
                assert live == [True, True, False, False]
        # Without fewer_mics, or where the reference channel would be one of the silent.
        for settings in ({}, {"fewer_mics": True, "ref_channel": 2}):
            with pytest.raises(UserError, match=r"4 channel\(s\) expected, found 2"):
                refused = remix((entries, voices[1]), one_talker=0.0, **settings)
                at(refused, 1, "v1", sources((entries, None), "v1"))

    def test_leakage_where_a_talker_is_alone_is_no_talker(self, voices, tmp_path):
        """The second label is 30 dB below the first: no image is made of it."""
        entries, lengths = dict(voices[0]), voices[1]
        for name in entries:
            for k, gain in ((1, 1.0), (2, 0.03)):
                label, _ = soundfile.read(entries[name].replace(".wav", f"-{k}.wav"))
                soundfile.write(tmp_path / f"{name}-{k}.wav", gain * label, FS, subtype="FLOAT")
            audio, _ = soundfile.read(entries[name])
            soundfile.write(tmp_path / f"{name}.wav", audio, FS, subtype="FLOAT")
            entries[name] = str(tmp_path / f"{name}.wav")
        preprocessor = remix((entries, lengths), one_talker=0.0)
        for epoch in range(8):
            example = at(preprocessor, epoch, "v1")
            assert all(self.tones(example[f"speech_ref{k}"])[0] % 2 == 0 for k in (1, 2))

    def test_true_labels_of_some_mixtures(self, voices, tmp_path):
        """They take the place of the labels there are; as they are, these mixtures alone are taken."""
        true = {name: voices[0]["v2"].replace(".wav", f"-{k}.wav") for k, name in ((2, "spk1"), (1, "spk2"))}
        write_set(
            tmp_path, {"wav.scp": {"v2": voices[0]["v2"]}} | {f"{n}.scp": {"v2": p} for n, p in true.items()}
        )
        preprocessor = remix(voices, as_is=0.5, one_talker=0.0, labelled=str(tmp_path))
        seen = {tuple(self.tones(at(preprocessor, epoch, "v1")["speech_mix"][:, 0])) for epoch in range(20)}
        assert (4, 5) in seen and (2, 3) not in seen and len(seen) > 4
        example = at(remix(voices, as_is=1.0, one_talker=0.0, labelled=str(tmp_path)), 1, "v1")
        assert self.tones(example["speech_ref1"]) == [5] and self.tones(example["speech_ref2"]) == [4]
        # Where none of them is in the set, they are taken all the same; in validation all are remixes.
        entries, lengths = ({k: v for k, v in table.items() if k != "v2"} for table in voices)
        given = {"as_is": 1.0, "one_talker": 0.0, "labelled": str(tmp_path)}
        example = at(remix((entries, lengths), **given), 1, "v1")
        assert self.tones(example["speech_ref1"]) == [5] and self.tones(example["speech_ref2"]) == [4]
        preprocessor = remix((entries, lengths), train=False, **given)
        assert "v2" not in preprocessor.entries["speech_ref1"]
        mixtures = {tuple(self.tones(at(preprocessor, 1, u)["speech_mix"][:, 0])) for u in entries}
        assert all(len(tones) == 2 for tones in mixtures) and (4, 5) not in mixtures
        with pytest.raises(UserError, match="expected 3 spkN.scp as the training set has, found 2"):
            tables = preprocessor.entries | {"speech_ref3": preprocessor.entries["speech_ref1"]}
            Remixes(True, tables, lengths=lengths, fs=FS, labelled=str(tmp_path))

    def test_a_labelled_mixture_of_one_talker_becomes_a_remix(self, voices, tmp_path):
        """How often one talker is alone is ``one_talker``, whatever the labelled mixtures are."""
        silence = str(tmp_path / "silence.wav")
        soundfile.write(silence, np.zeros(3 * SAMPLES), FS)
        labels = {"spk1.scp": voices[0]["v2"].replace(".wav", "-1.wav"), "spk2.scp": silence}
        write_set(
            tmp_path,
            {"wav.scp": {"v2": voices[0]["v2"]}} | {name: {"v2": label} for name, label in labels.items()},
        )

        def alone(**settings):
            preprocessor = remix(voices, labelled=str(tmp_path), **settings)
            examples = [at(preprocessor, epoch, "v1") for epoch in range(40)]
            return [not example["speech_ref2"].any() for example in examples]

        assert not any(alone(as_is=0.9, one_talker=0.0))
        assert 4 < sum(alone(as_is=0.7, one_talker=0.3)) < 20
        # Where all is to be mixtures as they are, or one talker is as many as an example may have, they stay.
        assert all(alone(as_is=1.0, one_talker=0.0))
        assert sum(alone(as_is=0.9, one_talker=0.0, fewest=1)) > 30

    def test_levels(self, voices):
        """The second image lies within +-gain_db of the first."""
        preprocessor, levels = remix(voices, one_talker=0.0, gain_db=6.0), []
        for epoch in range(30):
            example = at(preprocessor, epoch, "v1", sources(voices, "v1"))
            ratio = np.std(example["speech_ref2"]) / np.std(example["speech_ref1"])
            levels.append(20 * np.log10(ratio))
        assert 3 < max(levels) < 6.1 and -6.1 < min(levels) < -3

    def test_shares_that_make_no_sense(self, voices):
        with pytest.raises(UserError, match="add up to at most 1, found 0.5 and 0.6"):
            remix(voices, one_talker=0.5, as_is=0.6)


@pytest.mark.parametrize("make", [mom, crop, remix])
class TestDraws:
    def test_an_example_depends_on_its_key_alone(self, pool, make):
        one, other = make(pool), make(pool)
        for epoch in (1, 2):  # the one has made other examples before
            at(one, epoch, "u3", sources(pool, "u3"))
        data = sources(pool, "u0")
        assert same(at(one, 3, "u0", data), at(other, 3, "u0", data))

    def test_epoch_seed_and_utterance_matter(self, pool, make):
        data = sources(pool, "u0")
        base = at(make(pool), 1, "u0", data)
        assert not same(base, at(make(pool), 2, "u0", data))
        assert not same(base, at(make(pool, seed=1), 1, "u0", data))

    def test_validation_is_the_same_in_every_epoch(self, pool, make):
        data = sources(pool, "u0")
        preprocessor = make(pool, train=False)
        assert same(at(preprocessor, 1, "u0", data), at(preprocessor, 9, "u0", data))
        level = np.sqrt((at(preprocessor, 1, "u0", data)["speech_mix"] ** 2).mean(0))
        assert make is remix or (np.diff(level) > 0).all()  # channels in their own order


class TestErrors:
    def test_wrong_rate_and_channels_name_the_file(self, pool, tmp_path):
        path = str(tmp_path / "x.wav")
        soundfile.write(path, np.ones((2 * SAMPLES, 3)) * 0.1, 16000)
        entries, lengths = pool[0] | {"x": path}, pool[1] | {"x": 2 * SAMPLES}
        with pytest.raises(UserError, match=r"x\.wav: 8000 Hz expected .* found 16000"):
            at(mom((entries, lengths)), 1, "x")
        with pytest.raises(UserError, match=r"x\.wav: 4 channel\(s\) expected, found 3"):
            at(mom((entries, lengths), fs=16000, crop=0.1), 1, "x")

    @pytest.mark.parametrize("make", [mom, crop, remix])
    def test_nan_names_the_file(self, pool, tmp_path, make):
        entries = {}
        for name in ("x", "x-1", "x-2"):
            entries[name] = str(tmp_path / f"{name}.wav")
            audio = np.ones((SAMPLES, MICS if name == "x" else 1)) * 0.1
            if name == ("x-2" if make is crop else "x"):
                audio[70, -1] = np.nan
            soundfile.write(entries[name], audio, FS, subtype="FLOAT")
        preprocessor = make((pool[0] | {"x": entries["x"]}, pool[1] | {"x": SAMPLES}))
        with pytest.raises(UserError, match=r"x(-2)?\.wav: NaN or infinity at sample 70"):
            at(preprocessor, 1, "x", sources((entries, None), "x"))

    def test_settings(self, pool):
        with pytest.raises(UserError, match="needs as many different utterances"):
            mom(pool, n_mixtures=7)
        with pytest.raises(UserError, match="array symmetry must be none, circular or linear"):
            mom(pool, array_symmetry="circle")
        with pytest.raises(UserError, match="crop"):
            mom(pool, crop=0)
        with pytest.raises(UserError, match="data type 'text'"):
            crop(pool)("u0", {"speech_mix": np.zeros(10)})
