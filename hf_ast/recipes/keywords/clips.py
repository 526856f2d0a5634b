"""Clips for the keyword recogniser: speech in noise, as waveforms for testing and as spectrograms for training."""

from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_ast import HfASTFeatureExtractor
from hf_ast.models.modules_fbank import LOG_FLOOR, kaldi_fbank
from hf_ast.recipes.keywords.speech import (
    NOISE_KINDS,
    SAMPLING_RATE_HZ,
    change_speed,
    make_noise,
    mix_at_snr,
    place,
    random_voice,
    set_peak,
    synthesize,
)

UNKNOWN, SILENCE = "_unknown_", "_silence_"
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
LABELS = (*KEYWORDS, UNKNOWN, SILENCE)

# Everyday words, and words that sound similar to a keyword, but not the same in any of the accents
OTHER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand million bed bird
    cat dog happy house marvin sheila tree wow backward forward follow learn visual red green blue yellow black
    white orange purple brown grey water fire earth air wind rain snow sun moon star cloud river mountain island
    ocean forest garden flower mother father sister brother daughter uncle child woman man people doctor teacher
    student worker king queen hand foot head eye ear nose mouth finger shoulder knee heart blood bone apple
    banana bread butter cheese coffee dinner lemon milk orange potato sugar salt tea tomato chicken egg table
    chair window door kitchen bathroom ceiling carpet pillow blanket mirror candle lamp bottle spoon knife car
    train bicycle airplane ship bridge road street corner station ticket engine wheel Monday Tuesday Wednesday
    Thursday Friday Saturday Sunday January April August October winter summer autumn open close turn start
    begin finish play pause move push pull lift throw catch jump walk run sit stand sleep speak listen hear read
    remember forget think understand believe hope love laugh cry sing dance big small long short high low fast
    slow hot cold new old young good bad easy hard heavy light soft loud quiet early late near far rich poor
    clean dirty empty full strong weak maybe please thanks sorry hello goodbye welcome always never often
    sometimes again also because before after above below under over between behind inside outside around
    through without together music radio picture movie story letter number question answer problem reason minute
    morning evening computer keyboard telephone camera television internet message password volume question
    language culture science history village country city market office hospital library museum guess chess less
    dress mess best guest yell yet yesterday west note nose known snow slow show toe though bone nor now cup us
    ugly other upper puppy bump cap cop town dawn crown brown found done gown dull doubt lift laughed theft lend
    let leg less loft length ride rice bright rate rhyme wide night wrist ripe an in own odd ox honest arm gone
    onto of cough oft offer awful often soft laugh ought step top shop stock stuff staff spot stamp stone goat
    gold ghost goose gap got gay guy grow
""".split()

# Ranges of the duration of clips, and of the signal-to-noise ratio in them
DURATION_S = (0.5, 1.58)
SNR_TRAIN_DB = (3.0, 40.0)
SNR_TEST_DB = (10.0, 30.0)
# Statistics of the log-mel values in training clips
MEAN, STD = -10.5, 5.1
HOP = SAMPLING_RATE_HZ // 100

Pool = dict[str, list[np.ndarray]]


def unknown_words(split: str) -> list[str]:
    """List the words of `_unknown_` for a split: of every ten, eight are for training, one for each other split."""
    words = sorted(set(OTHER_WORDS))
    remainders = {"train": (0, 1, 2, 3, 4, 5, 6, 8), "validation": (9,), "test": (7,)}[split]
    return [word for index, word in enumerate(words) if index % 10 in remainders]


def speak(words: list[str], num_clips: int, split: str, rng: np.random.Generator, progress: tqdm) -> list[np.ndarray]:
    """Synthesise words in turn, each time with another voice, rate, pitch and intonation.

    Args:
        words: Words to speak.
        num_clips: Number of utterances; the words are repeated as often as needed.
        split: Split of the voices.
        rng: Source of randomness.
        progress: Advanced by one per utterance.

    Returns:
        Waveforms, each of shape (S,).
    """
    waveforms = []
    for index in range(num_clips):
        text = words[index % len(words)] + str(rng.choice(["", "", "!", "?"]))
        rate, pitch = int(rng.integers(110, 280)), int(rng.integers(20, 80))
        waveforms.append(synthesize(text, random_voice(split, rng), rate, pitch))
        progress.update()
    return waveforms


def speech_pool(split: str, num_per_keyword: int, num_unknown: int, seed: int, words: str = "train") -> Pool:
    """Synthesise clean speech with the voices of one split; returns waveforms by label.

    Args:
        split: Split of the voices.
        num_per_keyword: Utterances of each keyword.
        num_unknown: Utterances of other words.
        seed: Seed of everything random.
        words: Split of the other words; by default those of training, so that only the voices are new.
    """
    rng = np.random.default_rng([seed, *split.encode()])
    num_clips = num_per_keyword * len(KEYWORDS) + num_unknown
    with tqdm(total=num_clips, desc=f"Synthesising ({split})", unit="clip") as progress:
        pool = {keyword: speak([keyword], num_per_keyword, split, rng, progress) for keyword in KEYWORDS}
        others = unknown_words(words)
        rng.shuffle(others)
        pool[UNKNOWN] = speak(others, num_unknown, split, rng, progress)
    return pool


def random_clip(pool: Pool, label: str, snr_db: float | None, rng: np.random.Generator) -> np.ndarray:
    """Make a clip of 0.5 to 1.6 s: a word at a random place, or no word, with noise, at a random level.

    Args:
        pool: Clean speech by label.
        label: One of `LABELS`.
        snr_db: Signal-to-noise ratio over the whole clip; None for a clip without noise.
        rng: Source of randomness.

    Returns:
        Waveform in [-1, 1], shape (S,).
    """
    num_samples = int(rng.uniform(*DURATION_S) * SAMPLING_RATE_HZ)
    noise_kind = str(rng.choice(NOISE_KINDS))
    if label == SILENCE:
        # Silence without noise is what an idle audio converter gives: zeros, or a trace of hiss
        if snr_db is None:
            return set_peak(make_noise("white", num_samples, rng), rng.uniform(-90, -60)) * (rng.random() < 0.7)
        return set_peak(make_noise(noise_kind, num_samples, rng, pool[UNKNOWN]), rng.uniform(-40, 0))
    word = pool[label][rng.integers(len(pool[label]))]
    num_samples = min(max(num_samples, len(word)), int(DURATION_S[1] * SAMPLING_RATE_HZ))
    clip = place(word, num_samples, rng)
    if snr_db is not None:
        clip = mix_at_snr(clip, make_noise(noise_kind, num_samples, rng, pool[UNKNOWN]), snr_db)
    return set_peak(clip, rng.uniform(-30, 0))


class HeldOutClip(NamedTuple):
    """A clip of the test set."""

    waveform: np.ndarray
    label: str
    noisy: bool


def held_out_clips(num_per_class: int = 200, split: str = "test", seed: int = 0) -> list[HeldOutClip]:
    """Make clips of voices that do not occur in training.

    Args:
        num_per_class: Number of clips of each class without noise, and again with noise at 10 to 30 dB.
        split: "test" or "validation".
        seed: Another seed gives other clips.

    Returns:
        2 * 12 * num_per_class clips.
    """
    pool = speech_pool(split, num_per_class, num_per_class, seed)
    rng = np.random.default_rng([seed, 1])
    return [
        HeldOutClip(random_clip(pool, label, rng.uniform(*SNR_TEST_DB) if noisy else None, rng), label, noisy)
        for noisy in (False, True)
        for label in LABELS
        for _ in range(num_per_class)
    ]


class Utterance(NamedTuple):
    """Mel energies of a sound, shape (T, M), and the sum of its squared samples."""

    mel_energies: np.ndarray
    energy: float


class Example(TypedDict):
    """Normalised log-mel spectrogram (T, M) and class index."""

    input_values: Tensor
    labels: int


class RandomClips(Dataset[Example]):
    """`num_clips` different random clips, each of which depends only on the seed and its index.

    Speech and noise are mixed as mel energies instead of waveforms, which is fifty times as fast, so that every clip
    in training can be a new one. This is valid because the energies of uncorrelated sounds add up.

    Args:
        pool: Clean speech by label; each utterance is varied once in speed, and so in pitch and formants.
        feature_extractor: Front end whose features the clips imitate.
        num_clips: Number of clips.
        seed: Seed of everything random.
        unknown_share: Fraction of clips with other words; many words need more examples than the one of a keyword.
    """

    def __init__(
        self,
        pool: Pool,
        feature_extractor: HfASTFeatureExtractor,
        num_clips: int,
        seed: int,
        unknown_share: float = 0.25,
    ):
        self.feature_extractor = feature_extractor
        self.num_clips = num_clips
        self.seed = seed
        self.shares = np.full(len(LABELS), (1 - unknown_share) / (len(LABELS) - 1))
        self.shares[LABELS.index(UNKNOWN)] = unknown_share
        rng = np.random.default_rng([seed, 0])
        self.speech = {label: [self._varied(word, rng) for word in words] for label, words in pool.items()}
        self.noise = [
            self._mel_energies(make_noise(kind, 2 * SAMPLING_RATE_HZ, rng, pool[UNKNOWN]))[
                3:-3
            ]  # without the silence at the edges
            for kind in NOISE_KINDS
            for _ in range(40)
        ]

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, 1, index])
        label = int(rng.choice(len(LABELS), p=self.shares))
        num_frames = int(rng.uniform(*DURATION_S) * 100)
        noise = self.noise[rng.integers(len(self.noise))]
        noise = noise[rng.integers(len(noise) - int(DURATION_S[1] * 100) + 1) :]
        if LABELS[label] == SILENCE:
            mel_energies = noise[:num_frames] * 10 ** (
                rng.uniform(-5, -1) if rng.random() < 0.7 else rng.uniform(-9, -6)
            )
            mel_energies *= rng.random() < 0.9
        else:
            mel_energies = self._word(LABELS[label], num_frames, noise, rng)
        return {"input_values": self._normalized(mel_energies), "labels": label}

    def _word(self, label: str, num_frames: int, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Make the mel energies (T, M) of a word at a random place, of random timbre and level, usually in noise."""
        word, energy = self.speech[label][rng.integers(len(self.speech[label]))]
        num_frames = min(max(num_frames, len(word)), int(DURATION_S[1] * 100))
        start = int(rng.integers(abs(num_frames - len(word)) + 1))
        clip = np.zeros((num_frames, word.shape[1]), np.float32)
        if len(word) > num_frames:
            clip[:] = word[start : start + num_frames]
        else:
            clip[start : start + len(word)] = word
        # Shift the formants, and imitate another microphone
        shift = int(rng.integers(-4, 5))
        clip = np.pad(clip, ((0, 0), (max(shift, 0), max(-shift, 0))))[:, max(-shift, 0) :][:, : clip.shape[1]]
        knots = np.linspace(0, clip.shape[1] - 1, 6)
        clip *= 10 ** np.interp(np.arange(clip.shape[1]), knots, rng.uniform(-0.6, 0.6, 6)).astype(np.float32)
        if rng.random() < 0.75:
            snr = 10 ** (rng.uniform(*SNR_TRAIN_DB) / 10)
            clip += noise[:num_frames] * np.float32(energy / (num_frames * HOP) / snr)
        return clip * np.float32(10 ** rng.uniform(-3, 0))

    def _varied(self, word: np.ndarray, rng: np.random.Generator) -> Utterance:
        word = set_peak(word, 0.0)
        if rng.random() < 0.7:
            word = change_speed(word, np.exp(rng.uniform(np.log(0.75), np.log(1.4))))
        return Utterance(self._mel_energies(word), float(np.square(word).sum()))

    def _mel_energies(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the mel energies (T, M) of a waveform (S,) with silence around it."""
        padded = torch.nn.functional.pad(torch.from_numpy(waveform), (2 * HOP, 2 * HOP))[None]
        log_mel = kaldi_fbank(padded, num_mel_bins=self.feature_extractor.num_mel_bins)[0]
        return (log_mel.exp() - LOG_FLOOR).clamp_min(0.0).numpy()

    def _normalized(self, mel_energies: np.ndarray) -> Tensor:
        """Normalise and pad mel energies (T, M) as the feature extractor does."""
        extractor = self.feature_extractor
        log_mel = np.log(np.maximum(mel_energies, LOG_FLOOR))
        features = np.full((extractor.max_length, log_mel.shape[1]), extractor.padding_value, np.float32)
        features[: len(log_mel)] = (log_mel - extractor.mean) / (2 * extractor.std)
        return torch.from_numpy(features)
