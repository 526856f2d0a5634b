"""PaSST: the 25 files in the official releases, and TorchOnlyAST's copy of one.

The official code also names openmic2008.passt-u-f128-p16-s10-ap.85{,-swa}.pt, which are no longer in the release.
"""

from typing import Any

from .checkpoint import Checkpoint, Metric

REPOSITORY = "https://github.com/kkoutini/PaSST"
RELEASES = f"{REPOSITORY}/releases"
PRETRAINING = ("ImageNet-1k", "AudioSet-2M")
COMMON: dict[str, Any] = {
    "family": "passt",
    "license": "Apache-2.0",
    "license_note": (
        "The licence of the official repository, as far as the training data permits it (its author, PaSST issue 51)."
    ),
    "repository": REPOSITORY,
    "paper": "2110.05069",
}


def _checkpoint(name: str, title: str, file: str, *, stride: int = 10, **fields: Any) -> Checkpoint:
    """Describe a file of the releases, given as "tag/file"."""
    config = {"frequency_stride": stride, "time_stride": stride} | fields.pop("config", {})
    return Checkpoint(
        f"passt-{name}",
        title=f"PaSST-{title}",
        urls=(f"{RELEASES}/download/{file}",),
        config=config,
        **COMMON,
        **fields,
    )


def _audioset(name: str, title: str, file: str, result: float, *arches: str, **fields: Any) -> Checkpoint:
    return _checkpoint(
        name,
        f"{title}, AudioSet",
        file,
        label_set="audioset_527",
        metrics=(Metric("mAP", result, "AudioSet evaluation set", RELEASES),),
        datasets=PRETRAINING,
        aliases=arches,
        **fields,
    )


def _strided(stride: int, score: str, tag: str, *arches: str) -> Checkpoint:
    """Describe a PaSST-S with that stride; a score ending in "-swa" means averaged weights."""
    result, _, averaged = score.partition("-")
    return _audioset(
        f"s-s{stride}-audioset-0.{score}",
        f"S, stride {stride}{', weights averaged' if averaged else ''}",
        f"{tag}/passt-s-f128-p16-s{stride}-ap.{score}.pt",
        float(f"0.{result}"),
        *arches,
        stride=stride,
    )


def _fine_tuned(
    name: str, title: str, file: str, label_set: str, data: str, metric: Metric, **fields: Any
) -> Checkpoint:
    return _checkpoint(
        name,
        f"{title}, {data}",
        file,
        label_set=label_set,
        metrics=(metric,),
        datasets=(*PRETRAINING, data),
        **fields,
    )


def _esc50(fold: int, accuracy: str) -> Checkpoint:
    return _fine_tuned(
        f"s-s10-esc50-fold{fold}-0.{accuracy}",
        f"S, stride 10, fold {fold}",
        f"v.0.0.6/esc50-passt-s-n-f128-p16-s10-fold{fold}-acc.{accuracy}.pt",
        "esc50",
        "ESC-50",
        Metric("accuracy", float(f"0.{accuracy}"), f"ESC-50, fold {fold}", f"{RELEASES}/tag/v.0.0.6"),
    )


def _longer(seconds: int, score: str, result: float) -> Checkpoint:
    """Describe a PaSST-S with positions for more than 10 s."""
    frames = 100 * seconds
    return _audioset(
        f"s-{seconds}s-s10-audioset-0.{score}",
        f"S for {seconds} s, stride 10, weights averaged",
        f"v0.0.5/passt-s-f128-{seconds}sec-p16-s10-ap.{score}.pt",
        result,
        f"passt_{seconds}sec",
        f"passt_s_f128_{seconds}sec_p16_s10_ap{score[:3]}",
        f"passt-s-f128-{seconds}sec-p16-s10-ap{score}",
        config={"max_length": frames},
        front_end={"max_length": frames},
    )


def _finer(hop_length: int, frames: int) -> Checkpoint:
    """Describe a PaSST-S with more frames per second."""
    return _audioset(
        f"s-hop{hop_length}-s10-audioset-0.473-swa",
        f"S at a hop of {hop_length} samples, stride 10, weights averaged",
        f"v0.0.3-audioset/passt-s-f128-stfthop{hop_length}-p16-s10-ap.473-swa.pt",
        0.473,
        f"stfthop{hop_length}",
        f"passt_s_swa_f128_stfthop{hop_length}_p16_s10_ap473",
        config={"max_length": frames},
        front_end={"hop_length": hop_length, "max_length": frames},
    )


PASST_CHECKPOINTS = (
    _strided(10, "476-swa", "v0.0.1-audioset", "passt_s_swa_p16_128_ap476"),
    _strided(10, "4761-swa", "v0.0.2-audioset", "passt_s_swa_p16_128_ap4761"),
    _strided(10, "472", "v0.0.2-audioset", "passt_s_p16_128_ap472"),
    _strided(12, "473-swa", "v0.0.2-audioset", "passt_s_swa_p16_s12_128_ap473"),
    _strided(12, "470", "v0.0.2-audioset", "passt_s_p16_s12_128_ap470"),
    _strided(14, "471-swa", "v0.0.2-audioset", "passt_s_swa_p16_s14_128_ap471"),
    _strided(14, "469", "v0.0.2-audioset", "passt_s_p16_s14_128_ap469"),
    _strided(16, "473-swa", "v0.0.2-audioset", "passt_s_swa_p16_s16_128_ap473"),
    _strided(16, "468", "v0.0.2-audioset", "passt_s_p16_s16_128_ap468"),
    _finer(100, 3200),
    _finer(160, 2000),
    _longer(20, "474-swa", 0.474),
    _longer(30, "473-swa", 0.473),
    _audioset(
        "b-s16-audioset-0.459",
        "B, trained without patchout, stride 16",
        "v.0.0.7-audioset/passt-b-f128-p16-s16-ap.459.pt",
        0.459,
        "passt_b_f128_p16_s16_ap_459",
        stride=16,
    ),
    _audioset(
        "u-s16-audioset-0.460",
        "U, trained with unstructured patchout, stride 16",
        "v.0.0.7-audioset/passt-u600-f128-p16-s16-ap.460.pt",
        0.460,
        "passt_u600_f128_p16_s16_ap_460",
        stride=16,
    ),
    _audioset(
        "s-kd-s10-audioset-0.486",
        "S, trained with knowledge distillation, stride 10",
        "v.0.0.9/passt-s-kd-ap.486.pt",
        0.486,
        "passt_s_kd_p16_128_ap486",
    ),
    _audioset(
        "l-kd-s10-audioset-0.47",
        "L (7 layers), trained with knowledge distillation, stride 10",
        "v.0.0.10/passt-l-kd-ap.47.pt",
        0.4708,
        "passt_l_kd_p16_128_ap47",
        config={"num_hidden_layers": 7},
    ),
    _fine_tuned(
        "s-s10-openmic-0.85",
        "S, stride 10",
        "v0.0.5/openmic-passt-s-f128-10sec-p16-s10-ap.85.pt",
        "openmic_20",
        "OpenMIC-2018",
        Metric("mAP", 0.85, "OpenMIC-2018 test set", f"{RELEASES}/tag/v0.0.5"),
        aliases=("openmic", "openmic_passt_s_f128_10sec_p16_s10_ap85"),
    ),
    _fine_tuned(
        "s-s10-fsd50k-0.655",
        "S, stride 10",
        "v0.0.5/fsd50k-passt-s-f128-p16-s10-ap.655.pt",
        "fsd50k_200",
        "FSD50K",
        Metric("mAP", 0.655, "FSD50K evaluation set", f"{RELEASES}/tag/v0.0.5"),
        aliases=("fsd50k", "fsd50k_passt_s_f128_p16_s10_ap655"),
    ),
    _fine_tuned(
        "s-n-s16-fsd50k-0.642",
        "S-N (no overlap of patches), stride 16",
        "v0.0.5/fsd50k-passt-s-n-f128-p16-s16-ap.642.pt",
        "fsd50k_200",
        "FSD50K",
        Metric("mAP", 0.642, "FSD50K evaluation set", f"{RELEASES}/tag/v0.0.5"),
        stride=16,
        aliases=("fsd50k-n", "fsd50k_passt_s_n_f128_p16_s16_ap642"),
    ),
    _esc50(1, "967"),
    _esc50(2, "977"),
    _esc50(3, "959"),
    _esc50(4, "987"),
    _esc50(5, "962"),
    Checkpoint(
        "passt-s-s10-audioset-0.476-swa-torchonly",
        title="PaSST-S, stride 10, weights averaged, AudioSet, as mirrored by TorchOnlyAST",
        urls=(
            "https://github.com/tky823/TorchOnlyAST/releases/download/v0.0.1/"
            "passt-base-stride10-struct-ap0.476-swa.pth",
        ),
        # Shorter clips have the first positions, as in the official code; its AST and SSAST take the middle ones
        label_set="audioset_527",
        metrics=(Metric("mAP", 0.476, "AudioSet evaluation set", RELEASES),),
        datasets=PRETRAINING,
        **COMMON | {"repository": "https://github.com/tky823/TorchOnlyAST"},
    ),
)
