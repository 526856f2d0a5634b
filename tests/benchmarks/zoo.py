"""Every checkpoint of the registry, from a file of its exact official layout to a folder that everybody opens.

    python -m tests.benchmarks.zoo [NAME ...] [--search WORDS] [--workers 2] [--scratch DIR]

For each: `hf-ast` converts the file, verifies the folder and writes its card; then a process with hf_ast
and one without it, by remote code, open it with `AutoModel`, the class of its task, `AutoFeatureExtractor` and
`pipeline`, and must compute the same. The weights come from the generator of the golden cases: the official ones give
the same account, and their own numbers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from huggingface_hub import ModelCard  # noqa: E402

from hf_ast.conversion.checkpoint import Checkpoint  # noqa: E402
from hf_ast.conversion.registry import find, search  # noqa: E402
from hf_ast.conversion.verification import read_verification  # noqa: E402
from tests.support.official_files import layout_key, write_official_file  # noqa: E402

MB = 2**20
# Prints the largest memory of the process itself; what the system tells of a finished one includes that of its parent
CONVERT = """
import sys
from hf_ast.cli import main
status = main(["convert", *sys.argv[1:]])
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(peak.split()[1])
sys.exit(status)
"""
# Two commands in one process, which saves the time to import
VERIFY_AND_CARD = """
import sys
from hf_ast.cli import main
folder, file = sys.argv[1:]
sys.exit(main(["verify", folder, "--source", file]) or main(["card", folder]))
"""
# Prints what it opened, and a digest of every number that the models computed
OPEN = """
import hashlib, json, sys
import torch, transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline
from transformers import AutoModelForAudioFrameClassification, AutoModelForPreTraining
folder, remote = sys.argv[1], sys.argv[2] == "remote"
if remote:
    sys.modules["hf_ast"] = None  # cannot be imported
else:
    import hf_ast
trust = {"trust_remote_code": True} if remote else {}
transformers.utils.logging.set_verbosity_error()
digest = hashlib.sha256()

@torch.no_grad()
def run(auto_class):
    torch.manual_seed(0)  # of the masks of pretraining
    outputs = auto_class.from_pretrained(folder, **trust)(**inputs)
    for tensor in outputs.to_tuple():
        if tensor is not None:
            assert tensor.isfinite().all(), "not finite"
            digest.update(tensor.numpy().tobytes())

config = AutoConfig.from_pretrained(folder, **trust)
extractor = AutoFeatureExtractor.from_pretrained(folder, **trust)
# Not longer than the input of the model: by remote code, transformers' pipeline does not hear what follows
num_samples = min(3 * extractor.sampling_rate, extractor.max_samples)
waveform = 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0)).numpy()
inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
run(AutoModel)
task = config.architectures[0]
if task.endswith("ForPreTraining"):
    run(AutoModelForPreTraining)
if task.endswith("ForAudioFrameClassification"):
    run(AutoModelForAudioFrameClassification)
torch.manual_seed(0)  # of the head, where there is none in the checkpoint
# Opens AutoModelForAudioClassification
scores = pipeline("audio-classification", model=folder, top_k=None, **trust)(waveform)
digest.update(json.dumps(scores).encode())
known = task.endswith("ForAudioClassification")
print(json.dumps({"task": task, "label": scores[0]["label"] if known else "(new head)", "digest": digest.hexdigest()}))
"""


class Row(NamedTuple):
    """A line of the table."""

    name: str
    task: str
    convert: str
    tensors: str
    reference: str
    native: str
    card: str
    pipeline: str
    remote: str


HEADER = Row(
    "checkpoint",
    "class",
    "convert",
    "kept/derived/dropped",
    "reference",
    "native AST",
    "card",
    "pipeline",
    "remote code",
)
WIDTHS = (44, 28, 24, 20, 9, 10, 5, 34, 11)


def run(code: str, *arguments: str) -> str:
    """Standard output of Python code in a process of its own; what it said is the error if it fails."""
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout


class OfficialFiles:
    """Files for the checkpoints, made once for all that have the same layout.

    Args:
        folder: Where to keep them.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.Lock()
        self.by_layout: dict[str, Path] = {}

    def link(self, checkpoint: Checkpoint, folder: Path) -> Path:
        """A link to the file, under its official name in `folder`."""
        layout = layout_key(checkpoint)
        with self.lock:
            if layout not in self.by_layout:
                self.by_layout[layout] = write_official_file(checkpoint, self.folder)
        file = folder / checkpoint.file_name
        file.hardlink_to(self.by_layout[layout])
        return file


def prove(checkpoint: Checkpoint, files: OfficialFiles) -> Row:
    """All steps for one checkpoint; any that fails raises."""
    with tempfile.TemporaryDirectory(dir=files.folder) as temporary:
        file = files.link(checkpoint, Path(temporary))
        folder = Path(temporary) / checkpoint.name
        # `--as`: a made-up file has not the digest that is known of a released one
        start = time.perf_counter()
        output = run(CONVERT, str(file), "--as", checkpoint.name, "--out", str(folder))
        duration_s, peak_mb = time.perf_counter() - start, int(output.splitlines()[-1]) / 1024
        run(VERIFY_AND_CARD, str(folder), str(file))
        provenance = json.loads((folder / "conversion.json").read_text())
        verification = read_verification(provenance)
        assert verification is not None
        card = ModelCard.load(folder / "README.md").text
        described = provenance["source"]["sha256"] in card and "Verified" in card
        local = json.loads(run(OPEN, str(folder), "local").splitlines()[-1])
        remote = json.loads(run(OPEN, str(folder), "remote").splitlines()[-1])
        size_mb = file.stat().st_size / MB
    tensors, forward = verification.tensors, verification.forward
    assert forward is not None
    return Row(
        checkpoint.name,
        local["task"],
        f"{duration_s:4.1f} s {peak_mb:4.0f} MB {peak_mb / size_mb:5.2f}x",
        f"{tensors.kept}/{len(tensors.derived)}/{len(tensors.dropped)}",
        f"{forward.reference_difference:.1e}",
        "" if forward.native_difference is None else f"{forward.native_difference:.1e}",
        "ok" if described else "LACKS",
        local["label"][:34],
        "equal" if remote == local else "DIFFERENT",
    )


def proofs(checkpoints: list[Checkpoint], files: OfficialFiles, num_workers: int) -> Iterator[Row | Exception]:
    """The rows in order, each as soon as it is there; the error instead of a row where a step failed."""

    def attempt(checkpoint: Checkpoint) -> Row | Exception:
        try:
            return prove(checkpoint, files)
        except Exception as error:
            return error

    with ThreadPoolExecutor(num_workers) as pool:
        yield from pool.map(attempt, checkpoints)


def line(row: Row) -> str:
    """A row of the table as text."""
    return "  ".join(value.ljust(width) for value, width in zip(row, WIDTHS, strict=True)).rstrip()


def main() -> None:
    """Print the table; exit status 1 if a checkpoint failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names of checkpoints; all by default")
    parser.add_argument("--search", default="", help="words that must be in the name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="folder with 10 GB of space; the system's by default")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.workers)))
    checkpoints = [find(name) for name in args.names] or search(words=args.search)
    num_passed = 0
    print(line(HEADER), flush=True)
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        results = proofs(checkpoints, OfficialFiles(Path(folder)), args.workers)
        for checkpoint, result in zip(checkpoints, results, strict=True):
            passed = isinstance(result, Row) and (result.card, result.remote) == ("ok", "equal")
            num_passed += passed
            print(line(result) if isinstance(result, Row) else f"{checkpoint.name}  FAILED: {result}", flush=True)
    print(f"{num_passed} of {len(checkpoints)} checkpoints passed")
    sys.exit(num_passed < len(checkpoints))


if __name__ == "__main__":
    main()
