"""Headless Chromium for the tests that look at pages. Where there is none, these tests skip."""

from collections.abc import Iterator
from contextlib import contextmanager
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next((path for path in map(shutil.which, NAMES) if path), None)
needs_browser = pytest.mark.skipif(FOUND is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")


@contextmanager
def browser() -> Iterator:
    """A running browser of playwright, which drives the installed one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()
