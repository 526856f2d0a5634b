"""Whether the packages of the extra `train` are there, before anything is read or trained."""

from importlib import import_module

# Modules that training and evaluation import only when they come to need them, and their packages
NEEDED = {"soundfile": "soundfile", "soxr": "soxr", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def expect_train() -> None:
    """Raise an ImportError that names the extra `train` if one of its packages is missing."""
    for module, package in NEEDED.items():
        try:
            import_module(module)
        except ImportError as error:
            raise ImportError(f'Training and evaluation need {package}: pip install "hf-ast[train]"') from error
