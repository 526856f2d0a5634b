"""Label all recordings of a folder, and write a CSV file with one row per recording and label.

python examples/label_folder.py FOLDER OUT.csv [MODEL]
"""

import csv
import sys
from pathlib import Path

import hf_ast


def main(folder: str, out: str, model_name: str = str(hf_ast.assets.EMBEDDED_MODEL), top_k: int = 3) -> None:
    """Write the `top_k` best labels of each recording.

    Args:
        folder: Folder with audio files, also in subfolders.
        out: The CSV file to write.
        model_name: Folder, Hub id or any name of a released checkpoint; by default the embedded keyword model.
        top_k: Number of labels per recording.
    """
    model, feature_extractor = hf_ast.load_classifier(model_name)
    with Path(out).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "score"])
        for path in sorted(Path(folder).rglob("*.*")):
            try:
                tags = hf_ast.tag(model, feature_extractor, path).top(top_k)
            except ValueError as error:
                print(f"skipped: {error}", file=sys.stderr)
                continue
            writer.writerows([path.relative_to(folder), label, f"{score:.4f}"] for label, score in tags)


if __name__ == "__main__":
    main(*sys.argv[1:])
