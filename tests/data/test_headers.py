"""Headers of audio files: what writers write is read back, and damage ends in one line."""

import contextlib
import io
import struct
from unittest import mock

import numpy as np
import pytest
import soundfile
from examples import many
from hypothesis import given
from hypothesis import strategies as st

from frontend.data import headers
from frontend.data.audio import audio_info, read_audio
from frontend.data.headers import wav_header
from frontend.data.writers import AudioWriter, BlockWriter
from frontend.utils.errors import UserError

FS = 8000
FAR = 1 << 32
DTYPES = {"pcm16": "<i2", "float32": "<f4"}


def grid(rows: int, samples: int, seed: int = 0) -> np.ndarray:
    """Noise in whole numbers of 16 bits."""
    drawn = np.random.default_rng(seed).integers(-9000, 9000, (rows, samples))
    return (drawn / 32768).astype(np.float32)


def encoded(samples: np.ndarray, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.T, FS, format=form, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("headers")


@contextlib.contextmanager
def warned():
    """Yield the list of what the headers' reader warns of."""
    with mock.patch.object(headers, "warn") as warn:
        found: list[str] = []
        warn.side_effect = found.append
        yield found


# --- sizes that are not those of the samples


SOUND = grid(2, 500)
WAV = encoded(SOUND)
SIZE = len(WAV) - 44


def resized(riff: int, data: int, tail: bytes = b"", cut: int = 0) -> bytes:
    """The wav of 2 x 500 samples with other sizes in its header."""
    sizes = [struct.pack("<I", size % FAR) for size in (riff, data)]
    return WAV[:4] + sizes[0] + WAV[8:40] + sizes[1] + WAV[44 : len(WAV) - cut] + tail


LIST = b"LIST\x08\0\0\0INFOISFT"


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0x7FFFF024, 0x7FFFF000),  # sox
        (0x7FFFFFFF, 0x7FFFFFDB),
        (0x80000024, 0x80000000),  # arecord
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg
        (0xFFFFFFFF, 0xFFFFFFFF - 36),
        (0, 0),
        (36, 0),
        (8, 0),
        (0, 0xFFFFFFFF),
        (SIZE + 36, 2 * SIZE),  # the one size is right, the other one not
        (0, SIZE),
    ],
)
def test_a_header_of_a_stream_is_read_to_the_end(place, riff, data):
    path = place / "a.wav"
    path.write_bytes(resized(riff, data))
    assert audio_info(str(path)) == (2, 500, FS)
    assert np.array_equal(read_audio(path)[0], SOUND)
    assert np.array_equal(read_audio(path, 123, 45)[0], SOUND[:, 123:168])
    if data not in (SIZE, 2 * SIZE):
        path.write_bytes(resized(riff, data, cut=3))  # a pipe that broke within a sample
        assert audio_info(str(path)) == (2, 499, FS)


def test_a_size_that_counts_the_header_is_read_with_a_warning(place, capsys):
    path = place / "cubicsdr.wav"
    path.write_bytes(resized(SIZE + 52, SIZE + 16))
    assert np.array_equal(read_audio(path)[0], SOUND)
    assert "its header says 504 samples, found 500" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (resized(SIZE + 36, SIZE, cut=400), "truncated, its header says 500 samples, found 400"),
        (resized(SIZE + 36 + 400, SIZE + 400), "truncated, its header says 600 samples, found 500"),
        (resized(SIZE + 36, SIZE, cut=40), "truncated, its header says 500 samples, found 490"),
        (resized(SIZE + 36, SIZE, cut=1), "truncated, its header says 500 samples, found 499"),
        (resized(SIZE + 36 + len(LIST), SIZE, cut=3), "truncated, its header says 500 samples, found 499"),
        (encoded(SOUND, "W64")[:-400], "truncated, its header says 500 samples, found 400"),
        (encoded(SOUND, "W64")[:-1], "truncated, its header says 500 samples, found 499"),
        (encoded(SOUND, "AIFF")[:-400], "truncated, its header says [0-9]+ bytes, found"),
        (encoded(SOUND, "AU")[:-400], "truncated, its header says [0-9]+ bytes, found"),
        (encoded(SOUND, "NIST")[:-400], "truncated, its header says 3024 bytes, found 2624"),
        (b"RIFX" + encoded(SOUND, "WAV")[4:-400], "truncated, its header says"),
        (encoded(SOUND, "RF64")[:-400], "truncated, its header says 500 samples, found 400"),
        (resized(36, 0)[:44], "0 samples"),
        (resized(36 + len(LIST), 0)[:44] + LIST, "0 samples"),
        (WAV[:24] + bytes(4) + WAV[28:], "expected wav or flac audio"),  # a rate of 0
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "found MP4 or M4A .convert it"),
        (WAV + WAV[36:], "a damaged header. copy it again, or convert it: sox"),  # two chunks of data
        (b"", "expected wav or flac audio"),
        (WAV[:30], "expected wav or flac audio"),
    ],
)
def test_what_is_refused_names_both_lengths(place, content, message):
    path = place / "refused.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: .*{message}"):
        read_audio(path)


@pytest.mark.parametrize("frames", [1, 2, 7, 500])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16"])
@pytest.mark.parametrize(
    ("riff", "data"), [(2**64 - 1, 2**63 - 1), (2**63 - 1, 2**64 - 1), (0, 0), (2**62, 24), (0, None)]
)
def test_a_w64_of_a_pipe_is_read_to_the_end(place, capsys, frames, subtype, riff, data):
    content = encoded(SOUND[:1, :frames], "W64", subtype)
    expected = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    (place / "a.w64").write_bytes(content)
    assert np.array_equal(read_audio(place / "a.w64")[0][0], expected)
    at, width = content.index(b"data\xf3\xac") + 16, 1 + (subtype == "PCM_16")
    sizes = [struct.pack("<Q", size) for size in (riff, 24 + frames * width if data is None else data)]
    streamed = content[:16] + sizes[0] + content[24:at] + sizes[1] + content[at + 8 :]
    (place / "a.w64").write_bytes(streamed[: at + 8 + frames * width])  # nobody pads what is not finished
    assert np.array_equal(read_audio(place / "a.w64")[0][0], expected)
    assert not capsys.readouterr().err


def test_an_aiff_without_its_last_byte_is_named(place, capsys):
    (place / "a.aiff").write_bytes(encoded(SOUND[:1], "AIFF")[:-1])
    assert audio_info(str(place / "a.aiff"))[1] in (499, 500)
    assert "the last sample may be missing" in capsys.readouterr().err


def test_floats_of_64_bits_that_32_do_not_hold(place):
    samples = np.zeros((9, 2))
    samples[7, 1] = 1e200
    soundfile.write(place / "d.wav", samples, FS, subtype="DOUBLE")
    with pytest.raises(UserError, match=r"d.wav: 1e\+200, more than a float .* sample 7 of channel 2"):
        read_audio(place / "d.wav", finite=True)
    samples[7, 1] = np.nan
    soundfile.write(place / "d.wav", samples, FS, subtype="DOUBLE")
    with pytest.raises(UserError, match="d.wav: NaN or infinity at sample 7 of channel 2"):
        read_audio(place / "d.wav", 3, finite=True)


def test_a_flac_of_a_pipe_is_refused(place):
    content = bytearray(encoded(SOUND, "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (place / "pipe.flac").write_bytes(content)
    with pytest.raises(UserError, match="its header does not say how long it is .write it"):
        audio_info(str(place / "pipe.flac"))


def test_chunks_behind_the_samples_are_none_and_other_bytes_are_named(place, capsys):
    path = place / "b.wav"
    path.write_bytes(resized(SIZE + 36 + len(LIST), SIZE, LIST))
    assert np.array_equal(read_audio(path)[0], SOUND)
    eight = encoded(SOUND[:1, :99], "WAV", "PCM_U8")
    for tail in (b"", b"\0", LIST, b"\0" + LIST, LIST[:-1]):  # an odd size, with and without its padding
        path.write_bytes(eight[: 44 + 99] + (tail if tail != LIST[:-1] else b"\0LIST\x07\0\0\0INFOISF"))
        assert audio_info(str(path)) == (1, 99, FS)
    assert not capsys.readouterr().err
    path.write_bytes(resized(SIZE + 36, SIZE - 2))
    assert read_audio(path)[0].shape == (2, 499)
    assert "its header says 499 samples, found bytes for 500" in capsys.readouterr().err
    path.write_bytes(resized(SIZE + 36, 400))
    assert read_audio(path)[0].shape == (2, 100)
    assert "its header says 100 samples, found bytes for 500" in capsys.readouterr().err


@pytest.mark.parametrize("over", [0, 4, 4000, FAR])
def test_sizes_that_begin_again_beyond_4_gib_are_read_to_the_end(place, over):
    """A sparse file: only its ends take room on the disk."""
    path, size = place / "long.wav", FAR + over
    with open(path, "wb") as file:
        file.write(resized(size + 36, size)[:44])
        file.seek(44 + size - 4)
        file.write(struct.pack("<hh", 5, -7))
    frames = size // 4
    assert audio_info(str(path)) == (2, frames, FS)
    last, _ = read_audio(path, frames - 2)
    assert (last * 32768).tolist() == [[0, 5], [0, -7]]
    with open(path, "r+b") as file:  # neither its length nor that of a stream
        file.seek(40)
        file.write(struct.pack("<I", 996))
    if over != 996:
        with pytest.raises(UserError, match=f"its header says 249 samples, found bytes for {frames}"):
            audio_info(str(path))
    path.unlink()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64"])
def test_formats_of_devices(place, form, subtype):
    """Extensible headers, 8 to 64 bits: whole, as a stream, and in upper case."""
    content = encoded(SOUND, form, subtype)
    expected = soundfile.read(io.BytesIO(content), dtype="float32")[0].T
    (place / "A.WAV").write_bytes(content)
    assert np.array_equal(read_audio(place / "A.WAV")[0], expected)
    if form in ("WAV", "WAVEX"):
        at = content.index(b"data") + 4
        (place / "A.WAV").write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
        assert np.array_equal(read_audio(place / "A.WAV")[0], expected)


# --- properties


@given(st.data())
@many
def test_what_is_written_is_read_back(place, data):
    channels, frames = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 300))
    encoding = data.draw(st.sampled_from(["pcm16", "pcm24", "float32"]))
    kind = data.draw(st.sampled_from(["wav", "flac", "RF64", "AudioWriter"]))
    fs, seed = data.draw(st.sampled_from([8000, 11025, 16000, 44100, 192000])), data.draw(st.integers(0, 99))
    samples = grid(channels, frames, seed) * data.draw(st.sampled_from([1, 1, 8]))  # some are beyond 1.0
    if kind == "RF64":
        encoding = "pcm16" if encoding == "pcm24" or np.abs(samples).max() < 1 else "float32"
        samples = samples.clip(-1, 0.99) if encoding == "pcm16" else samples
        whole = samples.T * (32768 if encoding == "pcm16" else 1)
        entry, header = place / "w.wav", wav_header(frames, fs, channels, encoding, limit=100)
        entry.write_bytes(header + whole.astype(DTYPES[encoding]).tobytes())
        samples = (whole.astype(DTYPES[encoding]).T / (32768 if encoding == "pcm16" else 1)).astype(
            np.float32
        )
    elif kind == "AudioWriter":
        form = data.draw(st.sampled_from(["wav", "flac", "flac.ark"][: 3 if channels <= 8 else 1]))
        with AudioWriter(place / "x", form, fs) as writer:
            entry = writer.write("u", samples)
    else:
        ending = kind if channels <= 8 and encoding != "float32" else "wav"
        with BlockWriter(place / f"w.{ending}", fs, encoding) as writer:
            for k in range(0, frames, 100):
                writer.write(samples[:, k : k + 100])
        entry = next(path for path in place.iterdir() if path.stem == "w")
    assert audio_info(str(entry)) == (channels, frames, fs)
    assert np.array_equal(read_audio(entry, finite=True)[0], samples)
    for path in place.glob("w.*"):
        path.unlink()


size = st.one_of(
    st.integers(0, FAR - 1),
    st.integers(SIZE - 60, SIZE + 100),
    st.integers(0, 2 * SIZE),
    st.sampled_from([0, 8, 36, SIZE, SIZE + 36, FAR - 1, FAR - 37, 0x7FFFF000, 0x7FFFFFDB, 0x80000000]),
)


@given(
    riff=size,
    data=size,
    cut=st.one_of(st.just(0), st.integers(0, SIZE)),
    tail=st.sampled_from([b"", b"", LIST]),
)
@many
def test_no_sizes_make_it_read_a_part_in_silence(place, riff, data, cut, tail):
    path = place / "sizes.wav"
    path.write_bytes(resized(riff, data, tail, cut))
    there = (SIZE - cut) // 4
    with warned() as warnings:
        try:
            found, _ = read_audio(path)
        except UserError as error:
            assert "\n" not in str(error)
            assert data != SIZE or cut, error
            return
    assert found.shape[1] >= there or warnings
    assert (
        data != SIZE
        or cut <= len(tail)  # what follows lies where the samples were
        or warnings
        or riff in (SIZE - cut + len(tail) + 36, SIZE - cut + len(tail) + 35)
    ), "a cut file was read without a word"
    compared = min(there, found.shape[1])
    assert np.array_equal(found[:, :compared], SOUND[:, :compared])


KINDS = [
    WAV,
    WAV + LIST,
    encoded(SOUND, "WAVEX", "PCM_24"),
    encoded(SOUND, "WAV", "FLOAT"),
    encoded(SOUND, "RF64"),
    encoded(SOUND, "W64"),
    encoded(SOUND, "AIFF"),
    encoded(SOUND, "AU"),
    encoded(SOUND, "NIST"),
    encoded(SOUND, "FLAC"),
    encoded(SOUND[:1], "WAV", "IMA_ADPCM"),
    wav_header(500, FS, 2, "pcm16", limit=100) + WAV[44:],
    wav_header(500, FS, 2, "pcm24") + bytes(3000),
]


@st.composite
def damaged(draw) -> bytes:
    """A file with bytes changed, mostly in its header, left out, put in, or cut; or no audio at all."""
    if draw(st.integers(0, 9)) == 0:
        magic = draw(
            st.sampled_from([b"", b"RIFF", b"RF64", b"fLaC", b"riff", b"FORM", b".snd", b"RIFF\0\0\0\0WAVE"])
        )
        return magic + draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(KINDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.one_of(st.integers(0, 60), st.integers(0, len(content))))
        new = draw(
            st.one_of(
                st.binary(max_size=5), st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"data", b"RIFF"])
            )
        )
        gone = draw(st.sampled_from([len(new), len(new), 0, 4]))
        content[at : at + gone] = new
    return bytes(content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])


@given(content=damaged(), offset=st.sampled_from([None, None, 0, 5]))
@many
def test_damage_ends_in_a_result_or_in_one_line(place, content, offset):
    """Neither another exception nor a hang; nor samples that are not there."""
    path = place / "damaged.wav"
    path.write_bytes(content)
    entry = str(path) if offset is None else f"{path}:{offset}"
    with warned():
        for read in (
            lambda: audio_info(entry),
            lambda: read_audio(entry),
            lambda: read_audio(entry, 7, 50, True),
        ):
            try:
                found = read()
            except UserError as error:
                assert "\n" not in str(error)
            else:
                assert len(found) == 3 or found[0].size > 0


@given(entry=st.text(max_size=30))
@many
def test_any_text_is_an_entry_or_one_line(place, entry):
    for text in (entry, f"{place}/{entry}"):
        try:
            found = audio_info(text)
        except UserError as error:
            assert text.split() == [] or len(str(error)) > len(text), "it says more than the entry"
        else:
            assert min(found) > 0
