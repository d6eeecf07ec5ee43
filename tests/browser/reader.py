"""JupyterLab in a real browser, driven as a reader would: open a notebook, run it, turn a knob."""
import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import urlopen

import make
from PIL import Image

ROOT = make.ROOT
TOKEN = "only-for-this-test"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
CONNECTED = '.jp-StatusBar-TextItem:has-text("| Idle")'  # before that, Run All asks for a kernel
SLIDER = ".widget-slider .noUi-handle"
ERROR = ('.jp-OutputArea-output:has-text("Traceback (most recent call last)"), '
         '[data-mime-type="application/vnd.jupyter.stderr"]:has-text("NumbersDisagree")')
FIGURES = """cells => cells.flatMap(cell => [...cell.querySelectorAll("img, .jp-RenderedSVG svg")])
                      .map(figure => figure.src || figure.outerHTML)"""
# Every cell stays in the page, scrolled out of view or not, so that a test can look at it.
SETTINGS = {"@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"}}


@contextmanager
def server(root, home, **variables):
    """JupyterLab as `make lab` starts it, over another folder; yields its address.

    The variables are added to its environment.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for name, values in SETTINGS.items():
        path = (home / name).with_suffix(".jupyterlab-settings")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    environment = {**os.environ, **make.repeatable_environment()}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home),
                    **variables}
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}",
               f"--IdentityProvider.token={TOKEN}"]
    with open(home / "server.log", "w") as log:
        process = subprocess.Popen(make.lab_command(options, root), env=environment, stdout=log,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=root)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(address), 60, f"JupyterLab to start, see {log.name}")
            yield address
        finally:
            process.terminate()
            try:
                process.wait(60)  # it ends its kernels first
            except subprocess.TimeoutExpired:
                process.kill()


def answers(address):
    """Whether the server takes requests."""
    try:
        return urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).status == 200
    except OSError:
        return False


def wait_for(condition, seconds, what):
    """Ask again until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.2)
    raise TimeoutError(f"waited {seconds} s for {what}")


def is_blank(figure):
    """Whether a PNG has one colour only, as pyplot's have when drawn in a second thread."""
    kind, _, content = figure.partition(";base64,")
    if kind != "data:image/png":
        return False
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    extremes = picture.convert("RGB").getextrema()
    return all(low == high for low, high in extremes)


class Reader:
    """A browser page on one server, which remembers every request to an outside host."""

    def __init__(self, page, address):
        self.page, self.address, self.outside = page, address, []
        page.route("**/*", self.guard)
        page.on("websocket", lambda websocket: self.note(websocket.url))

    def note(self, url):
        """Remember a request that leaves this machine; say whether it does."""
        parts = urlsplit(url)
        leaves = parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"
        if leaves:
            self.outside.append(url)
        return leaves

    def guard(self, route):
        """Let through what stays on this machine."""
        route.abort() if self.note(route.request.url) else route.continue_()

    def open_and_run(self, notebook, seconds=480):
        """Open a notebook (a path under the server's root) and run all of its cells."""
        self.page.goto(f"{self.address}/lab/tree/{notebook}?token={TOKEN}&reset")
        self.page.wait_for_selector(IDLE, timeout=60_000)
        self.page.wait_for_selector(CONNECTED, timeout=60_000)
        wait_for(self.start, 60, "the first cell to run")
        wait_for(self.finished, seconds, f"{notebook} to finish")
        assert not self.errors(), f"{notebook}: {self.errors()[0][:2000]}"

    def start(self):
        """Run → Run All Cells; whether a cell runs.

        A click that comes too early is lost, so the caller repeats this, but not before a busy
        machine has had its time: what is started twice runs twice.
        """
        self.page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        self.page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        try:
            return wait_for(lambda: any(prompt != "[ ]:" for prompt in self.prompts()), 10, "[*]")
        except TimeoutError:
            return False

    def prompts(self):
        """The prompts of all cells that hold code."""
        cells = self.page.locator(".jp-CodeCell")
        return cells.locator(".jp-InputArea-prompt").all_inner_texts()

    def finished(self):
        """Whether every cell has its number and the kernel rests, or a cell shows an error."""
        numbered = all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in self.prompts())
        return self.errors() or numbered and self.page.query_selector(IDLE) is not None

    def errors(self):
        """Text of every error that a cell shows."""
        return self.page.locator(ERROR).all_inner_texts()

    def cell(self, text):
        """The cell whose source holds a text."""
        return self.page.locator(f".jp-CodeCell:has(.cm-content:has-text({json.dumps(text)}))")

    def said(self, text, words, seconds=60):
        """What such a cell shows, once some words are there: it is drawn after the run's end."""
        outputs = self.cell(text).locator(".jp-OutputArea")

        def read():
            shown = outputs.inner_text()
            return words in shown and shown

        try:
            return wait_for(read, seconds, f"the right output of {text}")
        except TimeoutError:
            raise AssertionError(f"{text} shows {outputs.inner_text()!r}") from None

    def run_again(self, text, source=None, seconds=60):
        """Run such a cell, with another source if one is given, and wait for its new number."""
        cell = self.cell(text)
        prompt, editor = cell.locator(".jp-InputArea-prompt"), cell.locator(".cm-content")
        before = prompt.inner_text()
        editor.scroll_into_view_if_needed()
        editor.click()
        if source is not None:
            self.page.keyboard.press("Control+a")
            self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Control+Enter")
        wait_for(lambda: prompt.inner_text() not in (before, "[*]:"), seconds, f"{text} to run")

    def explorer(self):
        """The first cell with a slider."""
        return self.page.locator(f".jp-CodeCell:has({SLIDER})").first

    def look(self):
        """(tables, figures) that the explorer shows."""
        outputs = self.explorer().locator(".jp-OutputArea")
        return set(outputs.locator("table").all_inner_texts()), set(outputs.evaluate_all(FIGURES))

    def turn(self, name, control, seconds=120, must_move="table or figure"):
        """Push a slider one step, or choose the next option; wait until the output follows."""
        before = self.look()
        control.scroll_into_view_if_needed()
        if control.evaluate("each => each.tagName") == "SELECT":
            control.select_option(index=1)
        else:
            control.focus()
            control.press("ArrowRight")

        def followed():
            now = self.look()
            self.page.wait_for_timeout(500)  # one output may be there before the other
            moved = [new != old for new, old in zip(now, before)]
            enough = all(moved) if must_move == "table and figure" else any(moved)
            return enough and now == self.look() and not any(map(is_blank, now[1]))

        wait_for(followed, seconds, f"{must_move} to change, as {name!r} was moved")
        assert not self.errors(), self.errors()[0][:2000]

    def controls(self):
        """Name and handle of every slider and every list of options of the explorer."""
        rows = self.explorer().locator(".widget-inline-hbox").all()
        found = [(row.locator(".widget-label").first.text_content(),
                  row.locator(".noUi-handle, select:not([multiple])")) for row in rows]
        return {name: handle.first for name, handle in found if handle.count()}

    def move_slider(self, seconds=120):
        """Push the explorer's first slider one step; wait for table and figure to follow."""
        assert all(self.look()), "the explorer shows no table or no figure before it is moved"
        self.turn("the slider", self.explorer().locator(SLIDER).first, seconds, "table and figure")
        assert all(self.look()), "the explorer lost its table or its figure"

    def photograph(self, path):
        """A picture to look at."""
        self.page.screenshot(path=str(path))
