"""What the tests of exercises look at: cells of chapters, and answers run as a learner would."""
import ast
import io
import re
import tokenize
from functools import cache

import nbformat
from course_lib.classroom.exercises import exercises
from make import ROOT

QUOTES = ('"""', "'''")
OPEN, CLOSE = "# your answer", "# end of your answer"
HEADING = re.compile(r"^### (\d+) · (.+?)\s*$", re.M)
META = re.compile(r"^\*(?P<kind>[^·*]+) · (?P<minutes>\d+) minutes · (?P<dots>[●○]{5}) · "
                  r"trains: (?P<trains>[^*]+)\*\s*$", re.M)
CALL = re.compile(r'^check\("(\w+)", (\w+)\)$', re.M)


def chapter_path(chapter):
    """The notebook of a chapter, by its name without the part's folder."""
    found = list((ROOT / "nbs").glob(f"*/{chapter}.ipynb"))
    assert len(found) == 1, f"{chapter}.ipynb stands in {len(found)} folders of nbs/"
    return found[0]


@cache
def cells(chapter):
    """Cells of a chapter."""
    return nbformat.read(chapter_path(chapter), as_version=4).cells


def exercise_cells(chapter):
    """(number, title, meta line's fields, source of the code cell) of each exercise."""
    found, heading, meta = [], None, None
    for cell in cells(chapter):
        if cell.cell_type == "markdown":
            heading = (HEADING.findall(cell.source) or [None])[-1]
            meta = META.search(cell.source)
        elif OPEN in cell.source.splitlines():
            found.append((heading, meta, cell.source))
    return found


def region(source):
    """What stands between the markers, and the cell without it."""
    before, rest = source.split(f"{OPEN}\n")
    inside, after = rest.split(f"{CLOSE}\n")
    return inside, before + after


def handed_in(exercise, source):
    """What a learner hands in who runs a source of their own."""
    namespace = {"__name__": "__main__"}
    exec(compile(source, "<the learner's cell>", "exec"), namespace)
    return namespace[exercise.variable]


def solution(exercise):
    """What the solution hands in."""
    return handed_in(exercise, exercise.solution)


def every(chapter=None):
    """All exercises, with their names for pytest."""
    return exercises(chapter)


def chapters():
    """Chapters that have exercises."""
    return sorted({each.chapter for each in exercises()})


# Lines that say nothing about how an exercise is solved, though they stand in its solution.
_IDIOMS = re.compile(
    r"import |from |def |class |@|else:|try:|with torch\.no_grad\(|super\(\)\.__init__\(|"
    r"return \w*$|return nn\.Sequential\($|for \w+ in model\.modules\(\):$|"
    r"\w+\.(step|zero_grad|backward)\(\)$")


def normalised(line):
    """A text with no whitespace, and one kind of quotation marks."""
    return re.sub(r"\s+", "", line).replace('"', "'")


def words(source):
    """Numbers of the lines that docstrings and other texts of several lines take."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = [token for token in tokens
             if token.type == tokenize.STRING and token.string.endswith(QUOTES)]
    return {line for text in texts for line in range(text.start[0], text.end[0] + 1)}


def telling_lines(source):
    """Lines of a solution by which a learner could recognise it, normalised.

    An import, a `def`, a `return` of a bare name, an idiom of PyTorch and whatever is shorter than
    twelve characters stand in any program; a docstring or a comment says in words what a hint may
    say too.
    """
    for number, line in enumerate(source.splitlines(), 1):
        code = line.split("  #")[0].strip()
        is_code = code and not code.startswith("#") and number not in words(source)
        if is_code and not _IDIOMS.match(code) and len(normalised(code)) >= 12:
            yield normalised(code)


def secret(exercise):
    """The solution without what its task lends: definitions whose names stand in backticks."""
    lent = set(re.findall(r"`(\w+)`", task(exercise))) - {exercise.variable}
    lines = exercise.solution.splitlines()
    for node in ast.parse(exercise.solution).body:
        if getattr(node, "name", None) in lent:
            lines[node.lineno - 1:node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)


def task(exercise):
    """The words of the task, in the cell before the stub."""
    before = ""
    for cell in cells(exercise.chapter):
        if f'check("{exercise.name}"' in cell.source:
            return before
        before = cell.source if cell.cell_type == "markdown" else before
    return before
