"""The command line: numbers of the truth tables, JSON for programs, one sentence on bad input."""
import csv
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course_lib import __version__
from course_lib.classroom import command_line
from course_lib.classroom.command_line import fit_table, main
from course_lib.core.tables import Table

TRUTH = Path(__file__).parents[1] / "truth"
HEADER = {"fc.weight": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]},
          "fc.bias": {"dtype": "F32", "shape": [4], "data_offsets": [48, 64]}}


def truth(table, model, column, source=""):
    """One number of a truth table."""
    with open(TRUTH / f"{table}.csv", newline="", encoding="utf-8") as file:
        return next(int(row[column]) for row in csv.DictReader(file)
                    if row["model"] == model and source in row["source"])


def checkpoint(folder):
    """A safetensors file of 16 parameters, written by hand."""
    path, header = folder / "model.safetensors", json.dumps(HEADER).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    return path


def answer(capsys, *arguments):
    """What a command prints as JSON."""
    assert main([*map(str, arguments), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def start(*arguments, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "course_lib.classroom.command_line", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            encoding="utf-8", **options)


def run(*arguments, **options):
    """(exit status, standard output, standard error) of the command in its own process."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


# ---- numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name, model", [
    ("gpt2", "GPT-2 124M"), ("lenet5", "LeNet-5 (modern ReLU/max-pool)"),
    ("alexnet", "AlexNet (one-column torchvision layout)"), ("llama-3-8b", "Llama-3-8B"),
    ("mixtral-8x7b", "Mixtral-8x7B")])
def test_params_is_the_truth_table(capsys, name, model):
    values = answer(capsys, "params", name)
    assert values["total"] == truth("parameters", model, "total")
    assert values["trainable"] == truth("parameters", model, "trainable")


def test_params_has_the_attributes_as_keys(capsys):
    values = answer(capsys, "params", "mixtral-8x7b")
    assert {"total", "trainable", "frozen", "buffers", "stored", "active", "bytes", "explained",
            "rows"} <= set(values)
    assert values["active"] == 12_879_925_248  # 2 of 8 experts, from the truth table's note
    assert sum(row["count"] for row in values["rows"]) == values["total"]
    assert {"name", "kind", "role", "formula", "shape", "count", "trainable", "dtype",
            "tied_to"} <= set(values["rows"][0])


def test_params_of_keras(capsys):
    values = answer(capsys, "params", "keras:ResNet50")
    assert values["total"] == truth("parameters", "ResNet50", "total", "keras")
    assert values["trainable"] == truth("parameters", "ResNet50", "trainable", "keras")


def test_params_by_role_is_the_truth_table(capsys):
    groups = answer(capsys, "params", "gpt2", "--by", "role")["groups"]
    assert groups == {"input": 39_383_808, "hidden": 85_056_000, "output": 0}


@pytest.mark.parametrize("by", ["kind", "role", "level", "block", "dtype"])
def test_groups_add_up(capsys, by):
    assert sum(answer(capsys, "params", "lenet5", "--by", by)["groups"].values()) == 61_706


def test_rows_are_not_folded(capsys):
    assert main(["params", "gpt2", "--rows"]) == 0
    printed = capsys.readouterr().out
    assert "h.11.mlp.c_proj" in printed and "h.0…11" not in printed
    assert main(["params", "gpt2"]) == 0
    assert "h.0…11" in capsys.readouterr().out


def test_a_checkpoint(capsys, tmp_path):
    values = answer(capsys, "params", checkpoint(tmp_path))
    assert (values["total"], values["bytes"]) == (16, 64)


@pytest.mark.parametrize("name, model", [("resnet50", "ResNet-50"), ("lenet5", "LeNet-5 (modern)")])
def test_depth_is_the_truth_table(capsys, name, model):
    values = answer(capsys, "depth", name)
    for column in ("weighted", "with_parameters", "shortest", "paths"):
        assert values[column] == truth("depth", model, column)
    assert len(values["witness"]) == values["weighted"]


def test_flops_of_no_more_tokens_than_the_model_has_positions_for(capsys):
    most, told = (answer(capsys, "flops", "clip", *length) for length in (
        [], ["--sequence-length", "77"]))
    assert most == told


def test_flops_of_a_linear_chain(capsys):
    values = answer(capsys, "flops", "mlp-784-128-10", "--batch-size", "2")
    assert values["forward"] == 2 * 2 * (784 * 128 + 128 * 10)


def test_memory_of_inference_keeps_no_gradients(capsys):
    values = answer(capsys, "memory", "gpt2", "--inference", "--sequence-length", "64",
                    "--precision", "bf16")
    assert values["gradients"] == values["optimizer_states"] == 0
    assert values["parameters"] == 2 * truth("parameters", "GPT-2 124M", "total")
    assert values["kv_cache"] == 2 * 2 * 12 * 64 * 768  # k and v, bf16, layers, tokens, width


def test_memory_of_parameters_gradients_and_adam(capsys):
    values = answer(capsys, "memory", "mlp-784-128-10", "--optimizer", "adamw")
    assert values["parameters"] == values["gradients"] == 4 * 101_770
    assert values["optimizer_states"] == pytest.approx(8 * 101_770, rel=1e-3)


def test_compare_gives_the_reasons(capsys):
    values = answer(capsys, "compare", "resnet50", "keras:ResNet50")
    assert values["difference"] == 25_636_712 - 25_557_032
    assert values["changes"]["convolution biases"] == 26_560


def test_names(capsys):
    assert main(["names"]) == 0
    listed = capsys.readouterr().out.split("\n")
    assert {"gpt2", "resnet50", "vgg16", "alexnet", "llama-3.1-405b", "mixtral-8x7b", "deepseek-v3",
            "keras:ResNet50"} <= set(listed)
    assert len(answer(capsys, "names", "--framework", "torch")["torch"]) >= 48


# ---- a terminal -------------------------------------------------------------------------------

WIDE = Table(["layer", "count", "formula"],
             [["transformer.h.0.attn", 1_771_776, "in_features·out_features"]],
             "a title", ["a note of several words"])


@pytest.mark.parametrize("width", range(30, 70))
def test_a_table_fits(width):
    text = fit_table(WIDE, width).to_text()
    assert max(map(len, text.splitlines())) <= width
    assert "1,771,776" in text


def test_a_table_that_fits_is_left_alone():
    assert fit_table(WIDE, 200).to_text() == WIDE.to_text()


def test_a_name_keeps_its_end_and_a_formula_its_beginning():
    text = fit_table(WIDE, 40).to_text()
    assert ".attn " in text and " in_feat" in text and text.count("…") == 2


def test_an_expendable_column_goes_first():
    table = fit_table(WIDE, 40, expendable=["formula"])
    assert list(table.headers) == ["layer", "count"] and table.rows == [["transformer.h.0.attn",
                                                                         1_771_776]]


def test_nothing_left_to_cut_is_no_endless_loop():
    assert "1,771,776" in fit_table(WIDE, 5).to_text()


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
def test_output_fits_a_terminal_and_a_pipe_gets_all(capsys, monkeypatch, columns):
    assert main(["params", "gpt2"]) == 0
    piped = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    assert main(["params", "gpt2"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns < max(map(len, piped.splitlines()))
    assert "124,439,808" in shown and "·768 = 38,597,376" in piped


# ---- bad input --------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, said", [
    (["params", "gpt22"], "gpt2"),
    (["params", "keras:ResNet5"], "keras:ResNet50"),
    (["params", "none.safetensors"], "no file 'none.safetensors'"),
    (["params", "./no/such/folder"], "./no/such/folder"),
    (["depth", "gpt22"], "gpt2"),
    (["flops", "lenet5", "--batch-size", "0"], "batch_size"),
    (["memory", "lenet5", "--batch-size", "-1"], "batch_size"),
    (["memory", "lenet5", "--optimizer", "adamv"], "optimizer"),
    (["memory", "lenet5", "--precision", "fp33"], "precision"),
    (["compare", "gpt2", "gpt22"], "gpt2"),
    (["parms", "gpt2"], "'params'"),
    (["params"], "model"),
    (["params", "gpt2", "bert"], "bert"),
    (["params", "gpt2", "--by", "colour"], "'kind'"),
    (["params", "lenet5", "--by", "level", "--level", "two"], "--level"),
    (["flops", "lenet5", "--batch-size", "many"], "--batch-size"),
    (["params", "gpt2", "--jso"], "--jso"),
    ([], "COMMAND"),
])
def test_bad_input_is_one_sentence_and_status_2(capsys, arguments, said):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err
    assert err.startswith("course-lib: ") and err.endswith("\n") and err.count("\n") == 1
    assert len(err) < 300 and "Traceback" not in err


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", struct.pack("<Q", 2**60) + b"{}"])
def test_a_broken_file_is_one_sentence(capsys, tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert main(["params", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_of_several_lines_becomes_one(capsys, monkeypatch):
    def broken(options):
        raise ValueError("first\n   second")

    monkeypatch.setattr(command_line, "_text", broken)
    assert main(["names"]) == 2
    assert capsys.readouterr().err == "course-lib: first second\n"


def test_a_file_that_may_not_be_read_is_one_sentence(capsys, monkeypatch):
    def refused(options):
        raise PermissionError(13, "Permission denied", "model.safetensors")

    monkeypatch.setattr(command_line, "_text", refused)
    assert main(["names"]) == 2
    assert capsys.readouterr().err == "course-lib: model.safetensors: Permission denied\n"


def test_a_bug_is_not_dressed_up_as_bad_input(monkeypatch):
    def bug(options):
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "_text", bug)
    with pytest.raises(ZeroDivisionError):
        main(["names"])


def test_ctrl_c(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_text", interrupted)
    assert main(["names"]) == 130
    assert capsys.readouterr().err == ""


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"course-lib {__version__}\n"
    assert main(["--help"]) == 0
    assert "course-lib compare resnet50 keras:ResNet50" in capsys.readouterr().out
    for command in ("params", "depth", "memory", "flops", "compare", "names"):
        assert main([command, "--help"]) == 0
        assert "--json" in capsys.readouterr().out


# ---- in a process of its own ------------------------------------------------------------------

def test_a_checkpoint_is_counted_without_torch(tmp_path):
    code = ("import sys; from course_lib.classroom.command_line import main; "
            "status = main(sys.argv[1:]); heavy = {'torch', 'tensorflow', 'keras', 'numpy', "
            "'pandas', 'transformers', 'matplotlib', 'safetensors'} & set(sys.modules); "
            "sys.exit(f'imported {heavy}' if heavy else status)")
    path = checkpoint(tmp_path)
    result = subprocess.run([sys.executable, "-c", code, "params", str(path), "--json"],
                            capture_output=True, text=True, encoding="utf-8")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["total"] == 16


@pytest.mark.slow
def test_the_module_runs_and_says_nothing_else():
    status, out, err = run("params", "gpt2", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["total"] == 124_439_808


@pytest.mark.slow
def test_tensorflow_is_quiet():
    status, out, err = run("compare", "resnet50", "keras:ResNet50")
    assert (status, err) == (0, "")
    assert "26,560 more: convolution biases" in out


def test_bad_input_in_a_process():
    status, out, err = run("params", "none.safetensors")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_an_old_terminal_lacks_characters_but_json_does_not(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    status, out, err = run("params", checkpoint(tmp_path), env=environment)
    assert (status, err) == (0, "") and "total 16" in out
    path = checkpoint(tmp_path).rename(tmp_path / "größe.safetensors")
    status, out, err = run("params", path, "--json", env=environment)
    assert (status, err) == (0, "") and json.loads(out)["source"] == str(path)


@pytest.mark.skipif(os.name == "nt", reason="pipes of Windows end in another way")
def test_a_reader_that_goes_away():
    process = start("names")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_in_a_process():
    # a process started in the background inherits an ignored Ctrl-C, and so would its children
    code = ("import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from course_lib.classroom import command_line as c; "
            "c._text = lambda options: (print('ready', flush=True), time.sleep(60)); "
            "raise SystemExit(c.main(['names']))")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


# ---- the course -------------------------------------------------------------------------------

@pytest.fixture
def record_folder(tmp_path, monkeypatch):
    """An empty record of progress."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def solve(name="lenet5_by_hand"):
    """One event of the record."""
    from course_lib.classroom.progress import record
    return record("check", "06_parameters", name, "right")


def test_status_follows_the_record(capsys, record_folder):
    before = answer(capsys, "status")
    assert before["solved"] == 0 and before["exercises"] >= 15 and before["questions"] >= 15
    solve(exercise("06_parameters"))
    after = answer(capsys, "status")
    assert after["solved"] == 1 and after["exercises"] == before["exercises"]
    assert main(["status"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"06_parameters +1 / \d+ +0 / \d+", table) and "Next review" in table


def exercise(chapter):
    """The name of an exercise that there is."""
    from course_lib.classroom.exercises import exercises
    return exercises(chapter)[0].name


def test_export_and_import(capsys, record_folder, tmp_path, monkeypatch):
    solve("a"), solve("b")
    assert main(["export", str(tmp_path / "ada.jsonl")]) == 0
    assert "2 events were written to" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "laptop"))
    assert answer(capsys, "import", tmp_path / "ada.jsonl") == {
        "added": 2, "known": 0, "faults": []}
    assert answer(capsys, "import", tmp_path / "ada.jsonl")["known"] == 2


def test_reset_refuses_where_nobody_can_be_asked(capsys, record_folder, monkeypatch):
    solve()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["reset"]) == 2
    assert "there is no terminal to ask: add --yes" in capsys.readouterr().err
    assert answer(capsys, "reset", "--yes") == {"erased": 1}


class Terminal(io.StringIO):
    """Somebody at a keyboard."""

    def isatty(self):
        return True


@pytest.mark.parametrize("said, erased", [("y\n", 1), ("YES\n", 1), ("是\n", 1), ("n\n", 0),
                                          ("\n", 0), ("", 0), ("maybe\n", 0)])
def test_reset_asks_first(capsys, record_folder, monkeypatch, said, erased):
    solve()
    monkeypatch.setattr("sys.stdin", Terminal(said))
    assert main(["reset"]) == 0
    shown = capsys.readouterr()
    assert "This erases 1 events in" in shown.err and "Erase them? [y/N]" in shown.out
    assert ("1 events were erased." if erased else "Nothing was erased.") in shown.out
    assert main(["reset", "--yes"]) == 0
    assert f"{1 - erased} events were erased." in capsys.readouterr().out


def test_a_class_by_its_files(capsys, record_folder, tmp_path):
    (tmp_path / "class").mkdir()
    solve()
    assert main(["export", str(tmp_path / "class" / "ada.jsonl")]) == 0
    assert main(["report", str(tmp_path / "class"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "lenet5_by_hand" in said and said.count("Written: ") == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "questions.csv", "students.csv", "report.html"}
    assert answer(capsys, "report", tmp_path / "class")["students"][0]["student"] == "ada"


@pytest.mark.parametrize("arguments, said", [
    (["export"], "file is missing"), (["import", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
    (["export", "nowhere/ada.jsonl"], "folder that does not exist"),
    (["report", "nowhere"], "is no folder"), (["report", "."], "holds no exported progress"),
    (["status", "--lang", "fr"], "--lang takes one of"), (["--lang"], "--lang needs a value"),
    (["params", "gpt2", "--level", "two"], "--level takes a whole number, not 'two'"),
    (["status", "now"], "now is not known here")])
def test_bad_input_to_the_course_is_one_sentence(
        capsys, record_folder, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_a_record_that_cannot_be_written_is_one_sentence(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file"))
    assert main(["reset", "--yes"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- the other language -----------------------------------------------------------------------

@pytest.mark.parametrize("place", ["before", "after", "joined"])
def test_lang_is_heard_wherever_it_stands(capsys, record_folder, place):
    arguments = {"before": ["--lang", "zh", "status"], "after": ["status", "--lang", "zh"],
                 "joined": ["status", "--lang=zh"]}[place]
    assert main(arguments) == 0
    assert capsys.readouterr().out == in_chinese("status")
    assert main(["status"]) == 0
    assert "Your progress" in capsys.readouterr().out, "the next command speaks English again"


def in_chinese(*arguments):
    """What a command prints with COURSE_LANG, in a process of its own."""
    status, out, err = run(*arguments, env={**os.environ, "COURSE_LANG": "zh_CN"})
    assert (status, err) == (0, "")
    return out


def test_help_is_in_the_readers_language(capsys, monkeypatch):
    from course_lib.core import messages
    words = {"usage:": "用法：", "options": "选项",
             "Show what you solved, what is due for review, and minutes, chapter by chapter":
                 "显示已完成的内容、待复习的内容和用时",
             "{what} is missing": "缺少 {what}", "show this help and leave": "显示帮助并退出",
             "{complaint}; {command} --help shows examples": "{complaint}；见 {command} --help"}
    monkeypatch.setattr(messages, "_catalogue", lambda name: words)
    messages._look_up.cache_clear()
    messages._templates.cache_clear()
    try:
        assert main(["--lang", "zh", "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("用法：course-lib") and "选项：" in shown and "待复习" in shown
        assert main(["--lang", "zh", "status", "--help"]) == 0
        assert "\n显示已完成的内容、待复习的内容和用时。\n" in capsys.readouterr().out
        assert main(["--lang", "zh", "export"]) == 2
        assert capsys.readouterr().err == "course-lib: 缺少 file；见 course-lib export --help\n"
    finally:
        messages._look_up.cache_clear()
        messages._templates.cache_clear()


@pytest.mark.parametrize("width", range(8, 24))
def test_no_line_begins_with_a_closing_mark(width):
    text = "全部输出所用的语言（默认取 COURSE_LANG，否则取系统语言）。"
    lines = command_line._wrap(text * 2, width)
    assert not [line for line in lines if line[0] in "，。）"]


@pytest.mark.parametrize("width", [20, 40, 60])
def test_chinese_texts_take_two_columns(width):
    table = Table(["名称", "数"], [["一个很长很长的名称" * 3, 12], ["short", 3]], "标题" * 20,
                  ["注释 with English words 和中文" * 3])
    lines = fit_table(table, width).to_text().splitlines()
    assert max(map(command_line._width, lines)) <= width


@pytest.mark.parametrize("text", ["", "one", "two words", "  indented", "权重" * 30,
                                  "averyverylongwordthatfitsnowhere and more"])
def test_wrapping_keeps_every_character(text):
    lines = command_line._wrap(text, 12)
    assert "".join("".join(lines).split()) == "".join(text.split())
