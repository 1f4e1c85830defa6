"""What several tests share: the repository's folder, a running dashboard and a browser to look at it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",  # Chromium refuses to run as root with one
    "--disable-gpu",
    "--no-first-run",
    # The tests' only host is 127.0.0.1; without these Chromium looks for its maker's at every start.
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVER_START_S = 60
PAGE_TIMEOUT_MS = 30_000

# The same examples in every run, and no deadline: the machine may be busy with something else.
hypothesis.settings.register_profile("ullage", derandomize=True, deadline=None)
hypothesis.settings.load_profile("ullage")


def pytest_runtest_setup(item):
    """Without Chromium a browser test is skipped on a desk and fails in CI, where nobody reads skips."""
    if item.get_closest_marker("browser") and not CHROMIUM.exists():
        reason = f"no {CHROMIUM}: install it with `apt-get install chromium`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """Address of the dashboard, served for as long as the tests run."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("streamlit") / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(_serve_command(port), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(url, server, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


# Not for the whole session: between Playwright's calls its event loop counts as running in this
# thread, and a test in another file that calls asyncio.run() would fail.
@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, app_url):
    """An empty tab that reaches the dashboard and nothing else; `page.goto("/")` opens it.

    The test fails when the page raised an uncaught JavaScript error or ends up showing a Python one.
    """
    context = chromium.new_context(base_url=app_url, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PAGE_TIMEOUT_MS)
    context.route(lambda url: not url.startswith((app_url, "data:", "blob:")), lambda route: route.abort())
    tab = context.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    errors += tab.locator("[data-testid=stException]").all_inner_texts()
    context.close()
    assert errors == []


def _serve_command(port: int) -> list[str]:
    options = {
        "server.headless": "true",
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", "app.py", *flags]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_healthy(url: str, server: subprocess.Popen, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the dashboard stopped while starting:\n{log.read_text()}", pytrace=False)
        with contextlib.suppress(OSError), direct.open(f"{url}/_stcore/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    pytest.fail(f"the dashboard was not up after {SERVER_START_S} s:\n{log.read_text()}", pytrace=False)
