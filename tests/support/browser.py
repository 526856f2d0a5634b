"""The browser of the browser tests."""

import shutil


def chromium() -> str:
    """Path of an installed Chromium or Chrome."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    assert found, "Chromium is not installed"
    return found[0]
