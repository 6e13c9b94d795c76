"""Mutation testing: small random faults in the package, and whether a test finds each.

A mutant is one change by an operator of cosmic-ray (`+` becomes `-`, 1 becomes 2, `<`
becomes `<=`, a condition is negated, a loop is left out) in a function that is drawn at
random. It is applied to a copy of the project. There the tests run that execute the changed
line, as coverage.py recorded them: the quickest first, and only until one fails.

    make mutants                                      # 40 mutants of seed 0
    python tests/mutants.py --count 100 --seed 1      # after `make coverage`
"""

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

import coverage
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_softconv"
AREAS = (
    "geometry.py", "weight_sharing", "penalties.py", "shrinkage.py", "regularizers",
    "optimizers.py", "conversion", "diagnostics", "callbacks",
)  # fmt: skip
REPLACED = (
    "BinaryOperator_Add_Sub", "BinaryOperator_Sub_Add", "BinaryOperator_Mul_Div",
    "BinaryOperator_Div_Mul", "BinaryOperator_FloorDiv_Mul", "BinaryOperator_Mod_Mul",
    "BinaryOperator_Pow_Mul", "BinaryOperator_BitOr_BitAnd", "BinaryOperator_BitAnd_BitOr",
    "ComparisonOperator_Eq_NotEq", "ComparisonOperator_NotEq_Eq",
    "ComparisonOperator_Lt_LtE", "ComparisonOperator_Lt_Gt", "ComparisonOperator_LtE_Lt",
    "ComparisonOperator_LtE_GtE", "ComparisonOperator_Gt_GtE", "ComparisonOperator_Gt_Lt",
    "ComparisonOperator_GtE_Gt", "ComparisonOperator_GtE_LtE",
    "ComparisonOperator_Is_IsNot", "ComparisonOperator_IsNot_Is",
    "UnaryOperator_Delete_USub", "UnaryOperator_Delete_Not", "UnaryOperator_Delete_Invert",
    "TrueWithFalse", "FalseWithTrue", "AndWithOr", "OrWithAnd",
)  # fmt: skip
OPERATORS = (
    *(f"core/Replace{name}" for name in REPLACED),
    *("core/NumberReplacer", "core/AddNot", "core/ZeroIterationForLoop"),
)
FIRST_TESTS = 60  # run before the others, since most mutants are found at once
RECORDED = Path("logs", "coverage")  # by `make coverage`


@dataclass(frozen=True)
class Mutant:
    """One change: the n-th place in a file at which an operator can be applied."""

    path: Path  # below the root
    line: int
    operator: str
    occurrence: int

    def source(self) -> str:
        """The text of the changed file."""
        original = (ROOT / self.path).read_text(encoding="utf-8")
        return mutate_code(original, get_operator(self.operator)(), self.occurrence)

    def changed_lines(self) -> str:
        original = (ROOT / self.path).read_text(encoding="utf-8")
        lines = difflib.unified_diff(original.splitlines(), self.source().splitlines(), n=0)
        return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


# Drawing mutants.


def draw_mutants(count: int, seed: int) -> list[Mutant]:
    """One mutant in each of `count` functions, all functions being equally likely."""
    areas = [PACKAGE / area for area in AREAS]
    files = [file for area in areas for file in sorted(area.rglob("*.py")) or [area]]
    of_functions = [mutants for file in files for mutants in mutants_by_function(file)]
    generator = random.Random(seed)
    return [generator.choice(mutants) for mutants in generator.sample(of_functions, count)]


def mutants_by_function(file: Path) -> list[list[Mutant]]:
    """The possible mutants of each function that has any."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    excluded = [node for node in map(without_effect, ast.walk(tree)) if node]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = {}
    nodes = list(ast_nodes(get_ast(text)))
    for operator in OPERATORS:
        positions = get_operator(operator)().mutation_positions
        places = (start for node in nodes for start, _ in positions(node))
        for occurrence, (line, column) in enumerate(places):
            if any(contains(node, line, column) for node in excluded):
                continue
            around = [node for node in functions if contains(node, line, column)]
            if around:
                innermost = max(around, key=lambda node: node.lineno)
                mutant = Mutant(file.relative_to(ROOT), line, operator, occurrence)
                found.setdefault(innermost, []).append(mutant)
    return list(found.values())


def without_effect(node: ast.AST) -> ast.AST | None:
    """The part of a node that changes nothing: an annotation, `zip`'s `strict=True`."""
    if isinstance(node, ast.FunctionDef):
        return node.returns
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return node.value
    return getattr(node, "annotation", None)


def contains(node: ast.AST, line: int, column: int) -> bool:
    start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    return start <= (line, column) < end


# Finding the tests that execute a line.


def tests_of(mutant: Mutant, recorded: Path) -> list[str]:
    """The names of the tests that execute the changed statement, the quickest first.

    After them come the other tests of the same files: what a fixture or a model that they
    share has executed is recorded for the first of them alone.
    """
    data, seconds = recording(recorded)
    contexts = data.contexts_by_lineno(next(
        name for name in data.measured_files() if Path(name).match(str(mutant.path))
    ))  # fmt: skip
    found = {
        context.rpartition("|")[0]
        for line in statement_lines(mutant)
        for context in contexts.get(line, ())
        if context
    }
    files = {test.partition("::")[0] for test in found}
    others = {test for test in seconds if test.partition("::")[0] in files} - found

    def quickest_first(test: str) -> tuple[float, str]:
        return seconds.get(test, 0.0), test

    return sorted(found, key=quickest_first) + sorted(others, key=quickest_first)


@cache
def recording(folder: Path) -> tuple[coverage.CoverageData, dict[str, float]]:
    """Which test executes which line, and how long each test takes."""
    data = coverage.CoverageData(str(folder / "coverage"))
    data.read()
    cases = ElementTree.parse(folder / "junit.xml").iter("testcase")
    return data, {name_of(case): float(case.get("time")) for case in cases}


def name_of(case: ElementTree.Element) -> str:
    """A test's name as pytest takes it, from that of a report in JUnit's format."""
    folder, module, *classes = case.get("classname").split(".")
    return "::".join([f"{folder}/{module}.py", *classes, case.get("name")])


def statement_lines(mutant: Mutant) -> range:
    """The lines of the innermost statement around the change.

    For a loop or a condition these are the lines of its head. Defaults of a function are
    evaluated when it is imported; for them the lines are those of the whole function.
    """
    tree = ast.parse((ROOT / mutant.path).read_text(encoding="utf-8"))
    statements = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= mutant.line <= node.end_lineno
    ]
    innermost = max(statements, key=lambda node: node.lineno)
    end = innermost.end_lineno
    if hasattr(innermost, "body") and not isinstance(innermost, ast.FunctionDef):
        end = max(innermost.lineno, innermost.body[0].lineno - 1)
    return range(innermost.lineno, end + 1)


# Running them.


def make_copy(folder: Path) -> Path:
    """A copy of the files that git knows or does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in names.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def killer_of(mutant: Mutant, copy: Path, recorded: Path) -> str | None:
    """The first test that fails with this mutant alone, or None if it survives."""
    tests, (_, seconds) = tests_of(mutant, recorded), recording(recorded)
    original = (copy / mutant.path).read_text(encoding="utf-8")
    for some in (tests[:FIRST_TESTS], tests[FIRST_TESTS:]):
        limit = 120 + 10 * sum(seconds.get(test, 1.0) for test in some)
        (copy / mutant.path).write_text(mutant.source(), encoding="utf-8")
        killer = failure(copy, some, limit) if some else None
        (copy / mutant.path).write_text(original, encoding="utf-8")
        if killer:
            same = some[: some.index(killer) + 1] if killer in some else some[:1]
            if failure(copy, same, limit):
                raise RuntimeError(f"{killer} fails without any mutant too.")
            return killer
    return None


def failure(copy: Path, tests: list[str], limit: float) -> str | None:
    """The first failure of these tests, or None; a process that hangs has failed too."""
    (copy / "tests.txt").write_text("\n".join(tests))
    options = ["-x", "--quiet", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "@tests.txt"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests started
        return "a test that does not end"
    if process.returncode == 0:
        return None
    for line in printed.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.partition(" ")[2].partition(" - ")[0]
    return printed[-500:]


def results(mutants: list[Mutant], jobs: int, recorded: Path) -> Iterator[str | None]:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies = SimpleQueue()
        for job in range(jobs):
            copies.put(make_copy(Path(folder, str(job))))

        def run(mutant: Mutant) -> str | None:
            copy = copies.get()
            try:
                return killer_of(mutant, copy, recorded)
            finally:
                copies.put(copy)

        yield from pool.map(run, mutants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of mutants to run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--recorded", type=Path, default=ROOT / RECORDED)
    arguments = parser.parse_args()
    mutants = draw_mutants(arguments.count, arguments.seed)
    chosen = arguments.only or range(1, len(mutants) + 1)
    mutants = [mutants[number - 1] for number in chosen]
    survivors = 0
    killers = results(mutants, arguments.jobs, arguments.recorded)
    for number, mutant, killer in zip(chosen, mutants, killers, strict=True):
        survivors += killer is None
        print(f"\n{number}. {mutant.path}:{mutant.line}\n{mutant.changed_lines()}")
        print(f"   {killer or 'SURVIVED'}", flush=True)
    print(f"\n{len(mutants) - survivors} of {len(mutants)} mutants are killed.")


if __name__ == "__main__":
    main()
