"""House style, as far as a machine can judge it: what in a notebook or a module falls short."""
import ast
import json
import re
import statistics

MAX_CELL, MEDIAN_CELL, MAX_FUNCTION, MAX_CLASS = 25, 6, 40, 80  # lines of code
MAX_MODULE, MAX_COLUMNS, MAX_RUN, MAX_BYTES = 700, 100, 3, 300_000
CHECK_WITHIN = 6  # cells after an exported one, prose included: three code cells

EXPORTED = re.compile(r"\s*#\s*\|\s*exports?\b")
CHECK = re.compile(r"^\s*(assert\b|with pytest\.raises|\S*\.testing\.assert_|test_\w+\()", re.M)
REMOTE_FIGURE = re.compile(
    r"!\[[^\]]*\]\(\s*https?:|<(img|iframe|video)[^>]+src=[\"']?https?:", re.I)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|coming soon|lorem ipsum)\b", re.I)


def text(cell):
    """A cell's source as one string; notebooks store it as lines."""
    return "".join(cell.get("source", ""))


def parse(source):
    """The syntax tree of a cell, its magics left out; None where it is no Python."""
    try:
        return ast.parse(re.sub(r"^[ \t]*[%!].*$", "pass", source, flags=re.M))
    except SyntaxError:
        return None


def docstring_lines(tree):
    """Numbers of the lines that docstrings take."""
    lines = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if ast.get_docstring(node) is not None:
                lines |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def count_lines(source, first=1, last=None, ignored=frozenset()):
    """Lines of code: blank lines and comments count nowhere, nor does what is ignored."""
    numbered = list(enumerate(source.splitlines(), 1))[first - 1:last]
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") and number not in ignored
               for number, line in numbered)


def definitions(source):
    """(node, lines of code in its body) of each function and class, nested ones included."""
    tree = parse(source)
    ignored = docstring_lines(tree)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node, count_lines(source, node.body[0].lineno, node.end_lineno, ignored)


def oversized(source):
    """Functions and classes that are too long."""
    for node, lines in definitions(source):
        limit = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
        if lines > limit:
            yield f"{node.name} has {lines} lines, {limit} are allowed"


def longest_run(cells):
    """How many code cells follow each other without prose."""
    longest = run = 0
    for cell in cells:
        run = run + 1 if cell["cell_type"] == "code" else 0
        longest = max(longest, run)
    return longest


def unchecked(cells):
    """Public names that a cell exports and that no cell soon after it checks."""
    for index, cell in enumerate(cells):
        if cell["cell_type"] != "code" or not EXPORTED.match(text(cell)):
            continue
        tree = parse(text(cell))
        names = [node.name for node in (tree.body if tree else ())
                 if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"]
        following = cells[index + 1:index + 1 + CHECK_WITHIN]
        if not any(CHECK.search(text(later)) for later in following):
            yield from (f"{name} is exported, and no check follows" for name in names)


def figures_without_alt(cell):
    """Stored images that say nothing to a reader who cannot see them."""
    for output in cell.get("outputs", ()):
        described = output.get("metadata", {})
        for kind in output.get("data", ()):
            if kind.startswith("image/") and not described.get(kind, {}).get("alt"):
                yield kind


def cell_faults(number, cell):
    """What falls short in one code cell."""
    source, where = text(cell), f"cell {number}"
    lines = count_lines(source, ignored=docstring_lines(parse(source)))
    if not EXPORTED.match(source) and lines > MAX_CELL:
        yield f"{where} has {lines} lines, {MAX_CELL} are allowed"
    yield from (f"{where}: {fault}" for fault in oversized(source))
    yield from (f"{where}: {kind} without alt text" for kind in figures_without_alt(cell))
    expected = "raises-exception" in cell.get("metadata", {}).get("tags", ())
    if not expected and any(each["output_type"] == "error" for each in cell.get("outputs", ())):
        yield f"{where} stores an error"
    wide = max((len(line) for line in source.splitlines()), default=0)
    if wide > MAX_COLUMNS:
        yield f"{where} has a line of {wide} columns"


def prose_faults(number, source):
    """What falls short in one markdown cell."""
    if REMOTE_FIGURE.search(source):
        yield f"cell {number} shows a figure from a remote host"
    if UNFINISHED.search(source):
        yield f"cell {number} speaks of unfinished work"


def notebook_faults(content):
    """Everything in a notebook's text (its JSON) that falls short of the house style."""
    cells = json.loads(content)["cells"]
    faults = []
    for number, cell in enumerate(cells):
        is_code = cell["cell_type"] == "code"
        faults += cell_faults(number, cell) if is_code else prose_faults(number, text(cell))
    taught = [cell for cell in cells if cell["cell_type"] == "code" and text(cell).strip()
              and not EXPORTED.match(text(cell))]
    median = statistics.median([count_lines(text(cell)) for cell in taught] or [0])
    if median > MEDIAN_CELL:
        faults.append(f"half of the teaching cells have {median:g} lines or more")
    if longest_run(cells) > MAX_RUN:
        faults.append(f"{longest_run(cells)} code cells follow each other without prose")
    if len(taught) > 3 and not any(cell.get("outputs") for cell in taught):
        faults.append("no outputs are stored")
    if len(content.encode()) > MAX_BYTES:
        faults.append(f"{len(content.encode()) // 1000} kB, {MAX_BYTES // 1000} are allowed")
    return faults + list(unchecked(cells))


def module_faults(source):
    """Everything in a module that falls short of the house style."""
    faults = list(oversized(source))
    if len(source.splitlines()) > MAX_MODULE:
        faults.append(f"{len(source.splitlines())} lines, {MAX_MODULE} are allowed")
    if re.search(r"^\s*from \S+ import \*|^\s*except\s*:", source, re.M):
        faults.append("import * or a bare except")
    tree = ast.parse(source)
    public = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
              and not node.name.startswith("_")]
    return faults + [f"{node.name} has no docstring" for node in public
                     if ast.get_docstring(node) is None]
