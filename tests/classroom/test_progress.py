"""The record of progress: nothing that was saved is lost, whatever happens to its writer."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from course_lib.classroom import progress
from course_lib.classroom.progress import (
    due_on, events, export, import_, minutes, read_export, record, reset, status)

WRITER = """
import sys
from course_lib.classroom.progress import record
for number in range(int(sys.argv[1])):
    name = f"exercise_{sys.argv[2]}_{number}"
    event = record("check", "06_parameters", name, "right", pad="x" * 300)
    print(event["id"], flush=True)
"""
POSIX = pytest.mark.skipif(os.name == "nt", reason="a signal or a device of POSIX")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty record for each test."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def start(*arguments, source=WRITER):
    """Another Python that writes to the same record."""
    return subprocess.Popen([sys.executable, "-c", source, *map(str, arguments)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def right(name="lenet5_by_hand", chapter="06_parameters"):
    """One right answer."""
    return record("check", chapter, name, "right")


def made(name, when, state="right", kind="check", chapter="06_parameters"):
    """An event of our own, as a line."""
    return {"id": f"{name}-{when}", "time": when.isoformat(), "kind": kind, "chapter": chapter,
            "name": name, "state": state}


def write(folder, *found):
    """A record with these events."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.jsonl").write_bytes(b"".join(map(progress._line, found)))


# ---- one event, one line ----------------------------------------------------------------------

def test_an_event_is_one_line_of_json(folder):
    event = record("quiz", "05_depth", "depth_q", "wrong", answer="b", note="中文")
    lines = (folder / "progress.jsonl").read_bytes().decode().splitlines()
    assert [json.loads(line) for line in lines] == [event] == events()
    assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)
    assert event["answer"] == "b" and event["note"] == "中文"


def test_details_that_json_lacks_become_text():
    import numpy
    event = record("check", "06", "x", "wrong", array=numpy.arange(2), number=float("inf"),
                   nested={"a": {1, 2}}, name_of_type=int)
    assert event["array"] == "[0 1]" and event["number"] == "inf"
    json.dumps(event, allow_nan=False)
    assert events() == [event]


def test_details_do_not_replace_what_an_event_is():
    event = record("check", "06", "x", "wrong", id="mine", time="never")
    assert event["id"] != "mine" and event["time"] != "never"


def test_a_huge_detail_is_left_out():
    event = record("check", "06", "x", "wrong", answer="y" * 1_000_000)
    assert event is not None and "answer" not in event and events() == [event]


def test_a_newline_inside_a_detail_is_no_line(folder):
    record("check", "06", "x", "wrong", answer="one\ntwo\r\n\u2028three")
    assert (folder / "progress.jsonl").read_bytes().count(b"\n") == 1
    assert events()[0]["answer"] == "one\ntwo\r\n\u2028three"


@pytest.mark.parametrize("wrong", [
    ("exam", "06", "x", "right"), ("check", "", "x", "right"), ("check", "06", "x", "maybe"),
    ("check", "06", None, "right"), ("check", "06", "x" * 300, "right")])
def test_what_is_no_event_is_refused(wrong):
    with pytest.raises(ValueError, match=r"record\("):
        record(*wrong)
    assert events() == []


def test_the_folder_of_the_account_where_nothing_is_said(monkeypatch):
    import platformdirs
    monkeypatch.delenv("COURSE_DATA")
    assert str(progress.data_folder()) == platformdirs.user_data_dir("course-lib", False)


# ---- lines that were torn ---------------------------------------------------------------------

@pytest.mark.parametrize("length", [1, 20, 100])
def test_a_torn_last_line_is_set_aside_and_the_next_event_stands_alone(folder, length):
    first = right()
    path = folder / "progress.jsonl"
    fragment = path.read_bytes()[:length]
    with open(path, "ab") as file:
        file.write(fragment)
    assert events() == [first], "a line without an end may still be being written"
    second = right()
    assert events() == [first, second]
    assert (folder / "progress.corrupt.jsonl").read_bytes() == fragment + b"\n"


def test_a_last_line_that_lacks_only_its_end_is_kept(folder):
    first = right()
    path = folder / "progress.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert events() == [first]
    second = right()
    assert events() == [first, second] and not (folder / "progress.corrupt.jsonl").exists()


@pytest.mark.parametrize("damage", [
    b"\x00" * 4096, b"\xff\xfe", b"null", b"[]", b'{"id": 1}', b"[" * 60_000, b"1" * 70_000,
    b'{"id":"a","time":"yesterday","kind":"check","chapter":"6","name":"x","state":"right"}',
    b'{"id":"a","time":"2026-01-01","kind":"check","chapter":"6","name":"x","state":"right"}'])
def test_a_damaged_line_is_set_aside_once_and_the_others_count(folder, damage):
    first = right()
    with open(folder / "progress.jsonl", "ab") as file:
        file.write(damage + b"\n")
    second = right()
    for _ in range(3):
        assert events() == [first, second]
    assert (folder / "progress.corrupt.jsonl").read_bytes() == damage + b"\n"
    assert damage in (folder / "progress.jsonl").read_bytes(), "the record itself is not rewritten"
    assert status().damaged == 1


def test_what_was_set_aside_before_is_not_set_aside_again(folder):
    right()
    for damage in (b"first", b"second"):
        with open(folder / "progress.jsonl", "ab") as file:
            file.write(damage + b"\n")
        events()
    assert (folder / "progress.corrupt.jsonl").read_bytes() == b"first\nsecond\n"


# ---- two at once, and a kill ------------------------------------------------------------------

def test_three_processes_at_once_lose_nothing():
    writers = [start(120, name) for name in "abc"]
    said = [writer.communicate(timeout=120) for writer in writers]
    assert [error for _, error in said] == ["", "", ""]
    written = [line for out, _ in said for line in out.split()]
    found = events()
    assert len(written) == 360 == len({event["id"] for event in found})
    assert sorted(written) == sorted(event["id"] for event in found)
    names = [event["name"] for event in found if event["name"].startswith("exercise_a_")]
    assert names == [f"exercise_a_{number}" for number in range(120)], "each in its own order"


@POSIX
def test_a_kill_in_the_middle_loses_nothing_that_was_saved():
    rng, saved = random.Random(0), []
    for attempt in range(6):
        writer = start(100_000, attempt)
        assert writer.stdout.readline()  # it is writing now; how far it gets is chance
        time.sleep(rng.uniform(0.0, 0.1))
        writer.send_signal(signal.SIGKILL)
        out, _ = writer.communicate(timeout=30)
        saved += [line for line in out.split() if len(line) == 36]
    last = right("after_the_kills")
    found = [event["id"] for event in events()]
    assert {*saved} <= {*found} and found[-1] == last["id"]
    assert len(found) == len({*found}) and len(saved) > 20


@POSIX
def test_a_writer_killed_inside_a_line_is_healed_by_the_next():
    source = """
import os, signal
from course_lib.classroom import progress
whole = os.write
def half(handle, data):
    whole(handle, data[:len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
progress.os.write = half
progress.record("check", "06_parameters", "torn", "right")
"""
    first = right()
    assert start(source=source).wait(30) == -signal.SIGKILL
    second = right()
    assert events() == [first, second]
    assert len(progress._damaged_lines()) == 1


def test_a_lock_that_somebody_holds_is_one_sentence(folder, monkeypatch, capsys):
    import filelock
    folder.mkdir(parents=True)
    monkeypatch.setattr(progress, "_locked", lambda: filelock.FileLock(
        folder / "progress.lock", timeout=0.2, thread_local=False))
    holder = start(source="""
import filelock, os, sys, time
with filelock.FileLock(os.path.join(os.environ["COURSE_DATA"], "progress.lock")):
    print("held", flush=True)
    sys.stdin.read()
    time.sleep(30)
""")
    try:
        assert holder.stdout.readline() == "held\n"
        assert right() is None
        assert capsys.readouterr().err.count("\n") == 1
    finally:
        holder.kill()
        holder.communicate()
    assert right() is not None, "the system takes the lock back from a dead program"


# ---- where nothing can be written -------------------------------------------------------------

def one_sentence(capsys):
    """What was said on standard error, which is one line and no traceback."""
    said = capsys.readouterr().err
    assert said.startswith("Your progress was not saved: ") and said.count("\n") == 1
    return said


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file" / "data"))
    assert right() is None
    assert "file" in one_sentence(capsys)
    assert events() == []


@POSIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder(folder, capsys):
    first = right()
    folder.chmod(0o500)
    try:
        (folder / "progress.jsonl").chmod(0o400)
        assert right() is None
        assert "Permission denied" in one_sentence(capsys)
        assert events() == [first]
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(folder, capsys):
    folder.mkdir(parents=True)
    (folder / "progress.jsonl").symlink_to("/dev/full")
    assert right() is None
    assert "No space left" in one_sentence(capsys)


@POSIX
def test_a_disk_that_fills_up_inside_a_line_keeps_the_lines_before(folder):
    source = """
import resource, signal
from course_lib.classroom.progress import record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
print([record("check", "06", f"x{n}", "right", pad="p" * 300) is not None for n in range(4)])
"""
    out, said = start(source=source).communicate(timeout=30)
    assert out.strip() == "[True, True, False, False]" and said.count("\n") == 2
    assert (folder / "progress.jsonl").read_bytes().endswith(b"\n")
    assert len(events()) == 2 and progress._damaged_lines() == []


@POSIX
def test_the_record_is_for_its_owner_only(folder):
    right()
    assert (folder / "progress.jsonl").stat().st_mode & 0o077 == 0


def test_without_filelock_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "filelock", None)
    assert right() is None
    assert 'pip install "course-lib[course]"' in one_sentence(capsys)


# ---- reviews ----------------------------------------------------------------------------------

DAY = date(2026, 3, 2)


@pytest.mark.parametrize("answers, due", [
    ([], None), ([(0, False)], None), ([(0, True)], 1),
    ([(0, True), (0, True), (0, True)], 1),  # many on one day are one
    ([(0, True), (1, True)], 4), ([(0, True), (1, True), (4, True)], 11),
    ([(0, True), (1, True), (4, True), (11, True)], 32),
    ([(0, True), (1, True), (4, True), (11, True), (32, True)], 92),
    ([(0, True), (1, True), (4, True), (11, True), (32, True), (92, True)], 152),  # the last box
    ([(0, True), (1, True), (3, True)], 4),  # early: nothing changes
    ([(0, True), (9, True)], 12),  # late: counted from the day on which it was answered
    ([(0, True), (1, True), (4, False)], 4), ([(0, True), (1, True), (4, False), (4, True)], 5),
    ([(0, False), (0, True)], 1)])
def test_leitner_boxes(answers, due):
    given = [(DAY + timedelta(days=day), state) for day, state in answers]
    assert due_on(given) == (None if due is None else DAY + timedelta(days=due))


def test_a_wrong_answer_is_due_until_it_is_right_again():
    given = [(DAY, True), (DAY + timedelta(days=1), False), (DAY + timedelta(days=3), False)]
    assert due_on(given) == DAY + timedelta(days=3)


# ---- minutes ----------------------------------------------------------------------------------

def at(minute, chapter="06"):
    """An event so many minutes after eight."""
    when = datetime(2026, 3, 2, 8, tzinfo=timezone.utc) + timedelta(minutes=minute)
    return made("x", when, chapter=chapter)


@pytest.mark.parametrize("moments, total", [
    ([], {}), ([0], {"06": 0}), ([0, 15], {"06": 15}), ([0, 15.1], {"06": 0}),
    ([0, 5, 60, 70], {"06": 15}), ([70, 0, 60, 5], {"06": 15})])
def test_minutes_are_the_gaps_without_pauses(moments, total):
    assert minutes([at(minute) for minute in moments]) == pytest.approx(total)


def test_a_gap_belongs_to_what_ends_it():
    assert minutes([at(0, "05"), at(10, "06"), at(12, "05")]) == {"05": 2, "06": 10}


# ---- status -----------------------------------------------------------------------------------

NOW = datetime(2026, 3, 20, 12, tzinfo=timezone.utc)


@pytest.fixture
def course(monkeypatch):
    """A course of two chapters."""
    monkeypatch.setattr(progress, "_course", lambda: {
        "05": {"check": {"a", "b"}, "quiz": {"q"}}, "06": {"check": {"c"}, "quiz": {"r", "s"}}})


def test_status_counts_what_was_right_once(folder, course):
    noon = NOW - timedelta(days=10)
    write(folder, made("a", noon, chapter="05"), made("a", noon, "wrong", chapter="05"),
          made("b", noon, "wrong", chapter="05"),
          made("r", noon + timedelta(minutes=4), kind="quiz", chapter="06"),
          made("gone", noon, chapter="06"))
    first, second = status(NOW).chapters
    assert (first.solved, first.exercises, first.right, first.questions) == (1, 2, 0, 1)
    assert (second.solved, second.exercises, second.right, second.questions) == (0, 1, 1, 2)
    assert first.due == ("a",) and second.due == ("r",) and status(NOW).due == ("a", "r")
    assert second.minutes == 4 and first.last == noon.astimezone().date().isoformat()


def test_status_tells_the_next_review(folder, course):
    assert status(NOW).next_review is None
    assert "Nothing is due" in str(status(NOW))
    write(folder, made("a", NOW, chapter="05"))
    tomorrow = (NOW.astimezone().date() + timedelta(days=1)).isoformat()
    assert status(NOW).due == () and status(NOW).next_review == tomorrow
    assert f"Next review: {tomorrow}." in str(status(NOW))
    assert status(NOW + timedelta(days=5)).due == ("a",)


def test_status_as_data(folder, course):
    write(folder, made("a", NOW, chapter="05"), made("q", NOW, kind="quiz", chapter="05"))
    values = json.loads(status(NOW).to_json())
    assert {key: values[key] for key in ("solved", "exercises", "right", "questions")} == {
        "solved": 1, "exercises": 3, "right": 1, "questions": 3}
    assert [chapter["chapter"] for chapter in values["chapters"]] == ["05", "06"]
    assert values["folder"] == str(folder) and values["damaged"] == 0


def test_status_of_the_course_itself():
    report = status()
    assert {"05_depth", "06_parameters"} <= {chapter.chapter for chapter in report.chapters}
    assert all(chapter.questions >= 5 for chapter in report.chapters)
    assert "<th" in report._repr_html_()


# ---- export, import, reset --------------------------------------------------------------------

@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work on another machine."""
    return lambda name: monkeypatch.setenv("COURSE_DATA", str(tmp_path / name))


def test_two_machines_end_up_with_the_same(tmp_path, elsewhere):
    here = [right("a"), right("b")]
    export(tmp_path / "one.jsonl")
    elsewhere("laptop")
    there = [right("c")]
    assert import_(tmp_path / "one.jsonl").added == 2
    export(tmp_path / "two.jsonl")
    elsewhere("data")
    report = import_(tmp_path / "two.jsonl")
    assert (report.added, report.known, report.faults) == (1, 2, ())
    assert import_(tmp_path / "two.jsonl").added == 0
    assert sorted(e["id"] for e in events()) == sorted(e["id"] for e in here + there)


def test_an_export_says_what_it_is_and_replaces_only_its_like(tmp_path):
    right()
    path = export(tmp_path / "ada.jsonl")
    assert json.loads(path.read_text().splitlines()[0])["format"] == "course-lib progress"
    right()
    assert len(read_export(export(path))[0]) == 2
    (tmp_path / "thesis.tex").write_text("precious")
    for name in ("thesis.tex", "."):
        with pytest.raises(FileExistsError, match="choose another name"):
            export(tmp_path / name)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_record_itself_can_be_imported(folder, elsewhere):
    right()
    elsewhere("laptop")
    assert import_(folder / "progress.jsonl").added == 1


def test_bad_lines_are_left_out_and_named(tmp_path):
    right("a"), right("b")
    path = export(tmp_path / "ada.jsonl")
    header, first, second = path.read_bytes().splitlines(keepends=True)
    evil = b'__import__("os").system("touch ' + bytes(tmp_path / "hacked") + b'")\n'
    path.write_bytes(header + evil + first + second[:50])
    found, faults = read_export(path)
    assert len(found) == 1 and faults == ["line 2 is no event", "line 4 is no event"]
    assert not (tmp_path / "hacked").exists()
    path.write_bytes(header + first)
    assert read_export(path)[1] == ["the file was cut off: it has 1 of 2 events"]


@pytest.mark.parametrize("content, said", [
    (b"", "holds no progress"), (b"\x89PNG\r\n\x1a\n", "holds no progress"),
    (b"[" * 100_000, "holds no progress"),
    (b'{"format": "course-lib progress", "version": 2}\n', "later version")])
def test_a_file_that_is_no_export(tmp_path, content, said):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        import_(tmp_path / "x.jsonl")
    assert events() == []


def test_a_file_that_is_too_large_is_not_even_read(tmp_path):
    with open(tmp_path / "x.jsonl", "wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match="1,000,000,000,000 bytes"):
        import_(tmp_path / "x.jsonl")


def test_import_into_a_torn_record(tmp_path, folder, elsewhere):
    right("a")
    copy = export(tmp_path / "ada.jsonl")
    elsewhere("laptop")
    mine = right("b")
    path = progress._record_path()
    path.write_bytes(path.read_bytes() + b'{"id": "torn')
    import_(copy)
    assert [event["name"] for event in events()] == ["b", "a"] and events()[0] == mine
    assert progress._damaged_lines() == [b'{"id": "torn']


def test_import_with_a_damaged_line_does_not_wait_for_its_own_lock(tmp_path):
    right()
    copy = export(tmp_path / "ada.jsonl")
    with open(progress._record_path(), "ab") as file:
        file.write(b"damaged\n")
    assert import_(copy).known == 1 and reset(sure=True) == 1


def test_reset_needs_a_word():
    right()
    with pytest.raises(ValueError, match="sure=True"):
        reset()
    assert len(events()) == 1 and reset(sure=True) == 1 and events() == []
    assert right() is not None and len(events()) == 1
