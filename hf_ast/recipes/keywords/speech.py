"""Synthetic English speech from espeak-ng, a split of its voices, and noises to mix with it.

It gives labelled speech without any download: hundreds of thousands of combinations of text, voice, rate and pitch, at
about 4 ms each. All functions are deterministic; random ones take a `numpy.random.Generator`. Waveforms are float32,
mono, at 16 kHz.

    rng = np.random.default_rng(0)
    voice = random_voice("train", rng)                             # "en-us+f2"
    speech = synthesize("left", voice, rate=150, pitch=60)
    clip = place(speech, SAMPLING_RATE_HZ, rng)                    # somewhere in one second
    noisy = mix_at_snr(clip, make_noise("pink", len(clip), rng), snr_db=10)
"""

import ctypes
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SAMPLING_RATE_HZ = 16000
ESPEAK_RATE_HZ = 22050

# `en` is British English. A voice is an accent plus a variant, "en-us+f2".
ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)

# Drawn once at random over groups of variants that sound nearly the same (as "adam" and "klatt6": mean log-mel
# distance 0.04, against a median of 1.3 between variants), so that no held-out voice has a twin in training.
VARIANTS = {
    "train": (
        "AnxiousAndy", "Demonic", "Denis", "Gene", "Gene2", "Marco", "Mario", "Michael", "Mike", "Mr serious", "Reed",
        "Tweaky", "adam", "announcer", "belinda", "benjamin", "boris", "david", "edward", "edward2", "f1", "f2", "f3",
        "fast", "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "klatt", "klatt2", "klatt3",
        "klatt4", "klatt5", "klatt6", "linda", "m1", "m5", "m6", "m7", "marcelo", "max", "michel", "miguel", "mike2",
        "norbert", "pablo", "quincy", "robert", "robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5",
        "robosoft6", "robosoft7", "robosoft8", "sandro", "shelby", "travis", "whisperf",
    ),
    "validation": (
        "Alex", "Alicia", "Andy", "anika", "anikaRobot", "aunty", "caleb", "croak", "f4", "grandma", "grandpa",
        "whisper",
    ),
    "test": (
        "Andrea", "Annie", "Diogo", "Henrique", "Hugo", "Jacky", "Lee", "Nguyen", "RicishayMax", "RicishayMax2",
        "RicishayMax3", "Storm", "UniRobot", "antonio", "ed", "f5", "m2", "m3", "m4", "m8", "paul", "pedro", "rob",
        "steph", "steph2", "steph3", "victor", "zac",
    ),
}  # fmt: skip

NOISE_KINDS = ("white", "pink", "brown", "hum", "clicks", "babble")

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_CHARS_UTF8 = 1
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
# espeak-ng keeps its state in C globals
_espeak_lock = threading.Lock()


def voices(split: str) -> list[str]:
    """All voices of a split ("train", "validation" or "test"): every variant with every accent."""
    if split not in VARIANTS:
        raise ValueError(f"split={split!r} is not one of {', '.join(VARIANTS)}.")
    return [f"{accent}+{variant}" for variant in VARIANTS[split] for accent in ACCENTS]


def random_voice(split: str, rng: np.random.Generator) -> str:
    """Draw a voice of a split, uniformly."""
    return str(rng.choice(voices(split)))


def synthesize(text: str, voice: str, rate: int = 175, pitch: int = 50) -> np.ndarray:
    """Speak a text with espeak-ng, in this process.

    The same arguments always give the same samples. espeak-ng carries the phase of its pitch flutter and its random
    numbers from one utterance to the next, so each utterance loads the library anew, which takes most of the 4 ms.

    Args:
        text: English text, or phonemes as "[[lEft]]".
        voice: Accent and variant, such as "en-us+f2"; see `voices`.
        rate: Words per minute, 80 to 450.
        pitch: 0 to 99, 50 is the voice's own.

    Returns:
        Waveform in [-1, 1], shape (S,), float32, 16 kHz.

    Raises:
        ImportError: espeakng-loader or soxr is not installed.
        ValueError: An argument is out of range, the voice is unknown, or the text has nothing to speak.
    """
    try:
        import espeakng_loader
        import soxr
    except ImportError as error:
        raise ImportError(
            f'Speech synthesis needs {error.name}, which is not installed: `pip install "hf-ast[recipes]"`.'
        ) from error
    if not 80 <= rate <= 450:
        raise ValueError(f"rate={rate} must be 80 to 450 words per minute.")
    if not 0 <= pitch <= 99:
        raise ValueError(f"pitch={pitch} must be 0 to 99; 50 is the voice's own pitch.")
    data_path = Path(espeakng_loader.get_data_path())
    variant = voice.partition("+")[2]
    # espeak-ng ignores an unknown variant, and speaks with the accent's own voice
    if variant and not (data_path / "voices" / "!v" / variant).is_file():
        raise ValueError(f"voice={voice!r} has an unknown variant; `voices('train')` lists valid ones.")
    with _espeak_lock:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            samples = _speak(library, data_path, text, voice, rate, pitch)
        finally:
            library.espeak_Terminate()
            _unload(library)
    if not samples.any():
        raise ValueError(f"text={text!r} gives no sound; it must contain something to pronounce.")
    waveform = soxr.resample(samples.astype(np.float32) / 32768, ESPEAK_RATE_HZ, SAMPLING_RATE_HZ)
    return np.clip(waveform, -1.0, 1.0)


def _speak(library: ctypes.CDLL, data_path: Path, text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
    """Samples of one utterance from a freshly loaded library, int16 at `ESPEAK_RATE_HZ`."""
    blocks: list[bytes] = []

    def keep(samples: Any, num_samples: int, events: int) -> int:
        if samples and num_samples:
            blocks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    callback = _SYNTH_CALLBACK(keep)  # which must exist as long as the library may call it
    rate_hz = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data_path).encode(), 0)
    if rate_hz != ESPEAK_RATE_HZ:
        raise RuntimeError(
            f"espeak-ng returned {rate_hz} at initialisation, not {ESPEAK_RATE_HZ} Hz; reinstall espeakng-loader."
        )
    # Breathy and Klatt voices take their noise from the C library, all others from espeak-ng itself
    c_library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    c_library.srand(1)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()):
        raise ValueError(f"voice={voice!r} is unknown to espeak-ng; `voices('train')` lists valid ones.")
    library.espeak_SetParameter(_PARAMETER_RATE, int(rate), 0)
    library.espeak_SetParameter(_PARAMETER_PITCH, int(pitch), 0)
    encoded = text.encode() + b"\0"
    library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    return np.frombuffer(b"".join(blocks), dtype=np.int16)


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def make_noise(
    kind: str, num_samples: int, rng: np.random.Generator, talkers: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Make noise of one of `NOISE_KINDS`, scaled to a root mean square of 1.

    Args:
        kind: "white", "pink", "brown", "hum", "clicks" or "babble".
        num_samples: Length S.
        rng: Source of randomness.
        talkers: Waveforms of speech from which "babble" is mixed, each of any shape (S',).

    Returns:
        Noise, shape (S,), float32.
    """
    match kind:
        case "white" | "pink" | "brown":
            noise = colored_noise(num_samples, {"white": 0.0, "pink": 1.0, "brown": 2.0}[kind], rng)
        case "hum":
            noise = hum(num_samples, rng)
        case "clicks":
            noise = clicks(num_samples, rng)
        case "babble":
            noise = babble(num_samples, talkers, rng)
        case _:
            raise ValueError(f"kind={kind!r} is not one of {', '.join(NOISE_KINDS)}.")
    return (noise / np.sqrt(np.mean(np.square(noise)))).astype(np.float32)


def colored_noise(num_samples: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose power falls as 1 / frequency ** exponent: 0 white, 1 pink, 2 brown. Shape (S,)."""
    if exponent == 0:
        return rng.standard_normal(num_samples, dtype=np.float32)
    # The transform is several times faster at a power of two
    num_generated = 1 << (num_samples - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(num_generated, dtype=np.float32))
    frequency_hz = np.fft.rfftfreq(num_generated, 1 / SAMPLING_RATE_HZ).astype(np.float32)
    # Flat below 20 Hz, which avoids an offset and inaudible energy
    return np.fft.irfft(spectrum * np.maximum(frequency_hz, 20.0) ** (-exponent / 2), num_generated)[:num_samples]


def hum(num_samples: int, rng: np.random.Generator, num_harmonics: int = 12) -> np.ndarray:
    """Mains or engine hum: harmonics of a steady 45 to 250 Hz tone, random in level and phase. Shape (S,)."""
    radians_per_sample = 2 * np.pi * rng.uniform(45, 250) / SAMPLING_RATE_HZ
    tone = np.exp(1j * radians_per_sample * np.arange(num_samples)).astype(np.complex64)
    waveform, harmonic = np.zeros(num_samples, dtype=np.float32), np.ones_like(tone)
    for order in range(1, num_harmonics + 1):
        harmonic = harmonic * tone  # several times faster than one sine per harmonic
        level = rng.uniform(0.1, 1) / order * np.exp(1j * rng.uniform(0, 2 * np.pi))
        waveform += (np.complex64(level) * harmonic).real
    return waveform


def clicks(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Taps and clatter: 2 to 20 resonances per second that start suddenly and ring 1 to 20 ms. Shape (S,)."""
    waveform = np.zeros(num_samples)
    for _ in range(1 + rng.poisson(rng.uniform(2, 20) * num_samples / SAMPLING_RATE_HZ)):
        time_s = np.arange(min(num_samples, SAMPLING_RATE_HZ // 10)) / SAMPLING_RATE_HZ
        ring = np.exp(-time_s / rng.uniform(0.001, 0.02)) * np.cos(2 * np.pi * rng.uniform(200, 6000) * time_s)
        start = rng.integers(num_samples)
        waveform[start : start + len(ring)] += rng.uniform(0.2, 1) * ring[: num_samples - start]
    return waveform


def babble(
    num_samples: int, talkers: Sequence[np.ndarray], rng: np.random.Generator, num_talkers: int = 8
) -> np.ndarray:
    """Several people speaking at once, none of them intelligible.

    Args:
        num_samples: Length S.
        talkers: Waveforms of speech to draw from, each of any shape (S',).
        rng: Source of randomness.
        num_talkers: Voices heard at any moment.

    Returns:
        Babble, shape (S,).
    """
    if not len(talkers):
        raise ValueError("talkers is empty, but babble is mixed from speech; give some results of `synthesize`.")
    mixture = np.zeros(num_samples)
    for _ in range(num_talkers):
        # Start in the middle of a word, then append one word after the other
        position = -int(rng.integers(SAMPLING_RATE_HZ // 2))
        while position < num_samples:
            word = talkers[int(rng.integers(len(talkers)))]
            word = word / (np.sqrt(np.mean(np.square(word))) + 1e-6)
            begin, end = max(position, 0), min(position + len(word), num_samples)
            if end > begin:
                mixture[begin:end] += word[begin - position : end - position]
            position += len(word)
    return mixture


def mix_at_snr(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise, scaled so that signal power over noise power is `snr_db`, both over the whole clip.

    Args:
        waveform: Signal, shape (S,).
        noise: Shape (S,), any level.
        snr_db: Signal-to-noise ratio, in dB.

    Returns:
        Mixture, shape (S,), float32, not clipped.
    """
    if waveform.shape != noise.shape:
        raise ValueError(f"noise has shape {noise.shape}, waveform {waveform.shape}; make both the same length.")
    signal_power, noise_power = np.mean(np.square(waveform)), np.mean(np.square(noise))
    if not (signal_power > 0 and noise_power > 0):
        raise ValueError("waveform and noise must not be all zeros: the signal-to-noise ratio has no meaning then.")
    scale = np.sqrt(signal_power / noise_power * 10 ** (-snr_db / 10))
    return (waveform + scale * noise).astype(np.float32)


def set_peak(waveform: np.ndarray, peak_db: float) -> np.ndarray:
    """Scale to a peak of `peak_db` relative to full scale (0 dB = 1.0); silence is unchanged. Shape (S,)."""
    peak = np.max(np.abs(waveform))
    return (waveform * (10 ** (peak_db / 20) / peak)).astype(np.float32) if peak > 0 else waveform


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Play faster: divide the duration, multiply pitch and formants by `factor`. (S,) -> (S / factor,), float32."""
    import soxr

    return soxr.resample(waveform, SAMPLING_RATE_HZ * factor, SAMPLING_RATE_HZ)


def place(waveform: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Put a waveform at a random position of a clip of zeros, or cut a random part out if it is too long.

    Args:
        waveform: Shape (S',).
        num_samples: Length of the clip, S.
        rng: Source of randomness.

    Returns:
        Clip, shape (S,), float32.
    """
    start = int(rng.integers(abs(num_samples - len(waveform)) + 1))
    if len(waveform) > num_samples:
        return waveform[start : start + num_samples]
    clip = np.zeros(num_samples, dtype=np.float32)
    clip[start : start + len(waveform)] = waveform
    return clip
