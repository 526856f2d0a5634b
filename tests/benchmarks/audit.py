"""What comes with `pip install hf-ast`, without extras: an SBOM, known vulnerabilities, licences.

    python -m tests.benchmarks.audit [--folder build/audit]          # make audit

Writes `sbom.json` (CycloneDX) with the versions of this environment, and asks pip-audit about them, which needs its
vulnerability service. The exit status is 1 where a package has a known vulnerability, could not be looked up, or has a
licence that is not allowed here. What comes with torch for GPUs (CUDA) is looked at where that build is installed.
"""

import argparse
import json
import re
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.environments import install_tools
from tests.support.interpreter import ROOT

PROJECT = "hf-ast"
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "ISC", "MIT", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
# Copyleft for changed files of the package itself, which nobody changes who depends on it
PER_FILE = {"MPL-2.0"}
# How packages without a licence expression state theirs
NAMES = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}


def tree(name: str, extras: tuple[str, ...] = ()) -> dict[str, Distribution]:
    """Installed packages that a package requires here, itself included, by canonical name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    to_visit = [(canonicalize_name(name), extras)]
    while to_visit:
        node = to_visit.pop()
        if node in seen:
            continue
        seen.add(node)
        name, extras = node
        found[name] = distribution(name)
        for text in found[name].requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                to_visit.append((canonicalize_name(requirement.name), tuple(sorted(requirement.extras))))
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """SPDX expression of a package: its own, or what its classifiers or its field say."""
    if expression := package.metadata.get("License-Expression"):
        return expression
    classifiers = package.metadata.get_all("Classifier", [])
    stated = [text.rsplit(" :: ", 1)[-1] for text in classifiers if text.startswith("License :: OSI Approved ::")]
    stated = stated or [package.metadata.get("License") or "none stated"]
    names = [NAMES.get(text.strip().lower(), text.strip().splitlines()[0]) for text in stated]
    return " AND ".join(sorted(set(names)))


def is_allowed(expression: str) -> bool:
    """Whether a choice that an SPDX expression offers is allowed; within parentheses, all of it must be."""
    choices = [expression] if "(" in expression else re.split(r"\s+OR\s+", expression)
    return any(
        all(
            term in PERMISSIVE | PER_FILE
            for term in re.split(r"\s+(?:AND|OR)\s+", choice.replace("(", "").replace(")", ""))
        )
        for choice in choices
    )


def write_sbom(commands: Path, packages: dict[str, Distribution], folder: Path) -> Path:
    """Describe the packages with their licences and what requires what, by cyclonedx-bom.

    It looks at whole environments, so it is shown one that has the metadata of these packages and nothing else.
    """
    venv.create(folder / "core", clear=True)
    (site,) = (folder / "core").glob("lib/python*/site-packages")
    for package in packages.values():
        file = next(file for file in package.files or [] if file.name == "METADATA")
        metadata = Path(str(package.locate_file(file))).parent
        (site / metadata.name).symlink_to(metadata)
    sbom = folder / "sbom.json"
    command = [commands / "cyclonedx-py", "environment", "--output-reproducible", "--of", "JSON", "-o", sbom]
    subprocess.run([*command, "--pyproject", ROOT / "pyproject.toml", folder / "core"], check=True)
    return sbom


def vulnerabilities(commands: Path, packages: dict[str, Distribution], folder: Path) -> tuple[list[str], list[str]]:
    """Ask pip-audit: what it found, and which packages it could not look up, about which it says no more."""
    pins, report = folder / "core.txt", folder / "vulnerabilities.json"
    # The index knows no local versions, such as 2.13.0+cpu
    lines = [f"{name}=={Version(package.version).public}\n" for name, package in packages.items() if name != PROJECT]
    pins.write_text("".join(lines))
    command = [commands / "pip-audit", "-r", pins, "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    report.unlink(missing_ok=True)
    done = subprocess.run([*command, "-f", "json", "-o", report], capture_output=True, text=True)
    if not report.exists():  # it writes none where the service cannot be reached at all
        raise RuntimeError(f"pip-audit ended with the status {done.returncode}: {done.stderr}")
    rows = json.loads(report.read_text())["dependencies"]
    found = [f"{row['name']} {row['version']}: {v['id']}" for row in rows for v in row.get("vulns", [])]
    return found, [row["name"] for row in rows if "skip_reason" in row]


def main() -> int:
    """Write the SBOM, print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/audit", help="of the SBOM and the tools")
    args = parser.parse_args()
    packages = tree(PROJECT)
    commands = install_tools(args.folder / "tools", "cyclonedx-bom", "pip-audit")
    sbom = json.loads(write_sbom(commands, packages, args.folder).read_text())
    print(f"{len(packages)} packages; {args.folder / 'sbom.json'} lists {len(sbom['components'])} components")
    for name, package in packages.items():
        print(f"{name:24} {package.version:16} {licence(package)}")
    refused = [name for name, package in packages.items() if not is_allowed(licence(package))]
    print(f"licences: {f'not allowed: {refused}' if refused else 'all allowed'}", flush=True)
    found, unknown = vulnerabilities(commands, packages, args.folder)
    num_asked = len(packages) - 1 - len(unknown)
    print(f"vulnerabilities: {len(found)} known in {num_asked} packages; {len(unknown)} could not be looked up")
    print("".join(f"  {line}\n" for line in found), end="")
    return 1 if refused or found or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
