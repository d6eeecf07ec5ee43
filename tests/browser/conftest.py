"""One JupyterLab and one Chromium for all browser tests."""
import shutil

import pytest
from samples import write_samples
from reader import CHROMIUM, FLAGS, ROOT, Reader, server
from xdist.scheduler import LoadScopeScheduling


class Pages(LoadScopeScheduling):
    """For two workers: a file's tests share a page, so one worker takes all; chapters are free.

    Marks of xdist_group would say so, but xdist 3.8 does not see them under pytest 9.2.
    """

    def _split_scope(self, nodeid):
        path = nodeid.split("::")[0]
        return nodeid if path.endswith("test_chapters.py") else path


@pytest.hookimpl(optionalhook=True)  # no such hook under -p no:xdist
def pytest_xdist_make_scheduler(config, log):
    """How tests are dealt out to workers."""
    return Pages(config, log)


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """JupyterLab over a copy of the notebooks: it saves what it runs, and the tree stays clean."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "nbs", root / "nbs")
    write_samples(root)
    with server(root, tmp_path_factory.mktemp("settings")) as running:
        yield running


@pytest.fixture(scope="session")
def chromium():
    """A browser; without one these tests are skipped."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed, so JupyterLab is not tried in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def reader(chromium, address):
    """A fresh page; whatever it asks of an outside host fails the test."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    reader = Reader(page, address)
    yield reader
    page.close()
    assert reader.outside == [], "the page asked for something outside this machine"
