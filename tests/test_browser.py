"""A real JupyterLab, a real browser: notebook 00 runs, its explorer answers, a report reads well.

`make test-browser`; screenshots go to the folder SCALING_SCREENSHOTS (default build/screenshots).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[1]
SHOTS = Path(os.environ.get("SCALING_SCREENSHOTS", ROOT / "build" / "screenshots"))
TOKEN = "only-on-this-machine"
CHROMIUM = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
CHROMIUM += " --disable-background-networking --disable-component-update"
QUIET = {"fetchNews": "false", "checkForUpdates": False}  # no pop-up over the notebook
IDLE = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
COUNTS = """() => jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code').map(cell => cell.model.executionCount)"""
#: what JupyterLab itself says on a console, and what a server without the kernel's history does
HARMLESS = ("favicon", "ResizeObserver", "workspaces", "service worker")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium on the PATH: apt-get install chromium fonts-dejavu-core")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """Start JupyterLab on a copy of the notebook, next to the runs; yield its address."""
    home = tmp_path_factory.mktemp("home")
    work = tmp_path_factory.mktemp("work")
    (work / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", work / "notebooks")
    (work / "data").symlink_to(ROOT / "data")
    folder = home / "config/lab/user-settings/@jupyterlab/apputils-extension"
    folder.mkdir(parents=True)
    (folder / "notification.jupyterlab-settings").write_text(json.dumps(QUIET))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={work}", "--expose-app-in-browser",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    names = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "IPYTHONDIR": "ipython"}
    environment = os.environ | {key: str(home / name) for key, name in names.items()}
    log = (home / "log").open("w")
    server = subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, cwd=work, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.time() + 120
        while True:
            if server.poll() is not None or time.time() > until:
                pytest.fail((home / "log").read_text())
            try:
                urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()


@pytest.fixture
def page(browser) -> Iterator:
    """Yield a page that fails the test at the end if anything went wrong on its console."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(240_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda message: wrong.append(message.text) if message.type == "error" else None
    )
    yield page
    page.close()
    assert not [text for text in wrong if not any(word in text for word in HARMLESS)]


def picture(page) -> list[int]:
    """Return the pixels of the explorer's picture, hashed where they are."""
    page.wait_for_function(
        "() => document.querySelector('.scaling-explorer img')?.naturalWidth > 300"
    )
    return page.evaluate("""async () => {
        const image = document.querySelector('.scaling-explorer img');
        const bytes = await (await fetch(image.src)).arrayBuffer();
        return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-1', bytes)));
    }""")


def changed(page, before: list[int]) -> list[int]:
    """Return the explorer's picture once it is another one."""
    until = time.time() + 60
    while (now := picture(page)) == before:
        assert time.time() < until, "the picture did not change"
        time.sleep(0.1)
    return now


@pytest.mark.timeout(600)
def test_the_first_notebook_runs_in_jupyterlab_and_its_explorer_answers(lab, page):
    page.goto(f"{lab}/lab/tree/notebooks/00_start_here.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function(IDLE)
    page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(f"() => ({COUNTS})().every(count => count) && {IDLE}")
    counts = page.evaluate(COUNTS)
    assert counts == list(range(1, len(counts) + 1))

    first = picture(page)
    explorer = page.locator(".scaling-explorer")
    explorer.scroll_into_view_if_needed()
    handle = explorer.locator(".noUi-handle, .ui-slider-handle").first
    handle.focus()
    page.keyboard.press("ArrowLeft")
    second = changed(page, first)
    explorer.locator("select").nth(3).select_option("flops")
    third = changed(page, second)
    explorer.get_by_role("button", name="copy code").click()
    page.wait_for_function(
        "() => document.querySelector('.scaling-explorer textarea')?.value.includes('forecast')"
    )
    assert third not in (first, second)
    page.screenshot(path=SHOTS / "explorer.png")

    figures = page.evaluate(
        "() => [...document.querySelectorAll('.jp-RenderedImage img')].map(i => i.naturalWidth)"
    )
    assert len(figures) >= 2
    assert min(figures) > 300
    assert not page.locator('[data-mime-type$="error"], [data-mime-type$="stderr"]').count()


@pytest.mark.parametrize(("name", "width", "height"), [("desktop", 1280, 900), ("phone", 390, 844)])
def test_a_report_reads_well_at_the_width_of(name, width, height, browser, page, tmp_path):
    import scaling as sc

    sc.load(ROOT / "data" / "runs")[:2].report(tmp_path)
    page.set_viewport_size({"width": width, "height": height})
    page.goto((tmp_path / "report.html").as_uri())
    page.screenshot(path=SHOTS / f"report_{name}.png", full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, "the page scrolls sideways"
    shown = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.width])")
    assert len(shown) == 2
    least = (
        1000 if name == "desktop" else 640
    )  # on a phone the figure scrolls: text of its panels stays readable
    assert all(natural > 300 and least <= drawn for natural, drawn in shown)
    cut = page.evaluate("[...document.querySelectorAll('div.wide')].map(d => d.scrollWidth)")
    assert width < 1000 or max(cut) <= 1024, "no table is cut on a desktop"
    assert page.locator("[data-row]").count() > 50
