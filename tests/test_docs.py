"""README and docs: commands exist, links lead somewhere, tables are those of the code."""

import doctest
import importlib.util
import re
from dataclasses import replace

import pytest

from sw.cycles import layer_cycles
from sw.engine import ENGINES
from sw.networks import digits
from sw.program import Region
from sw.protocol import Opcode, Status
from sw.record import FIELDS, record_words
from tests.readme import PAGES, ROOT, anchors, blocks, commands, links, table

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()


def script(name):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layer_record, results = script("layer_record"), script("results")

#: Commands of the system that the pages may use.
SYSTEM = {"git", "cd", "."}

COMMANDS = [
    command for page in PAGES for block in blocks(page.read_text(), "sh")
    for command in commands(block)
]


def make_problem(words):
    """What is wrong with the arguments of make: an unknown target or variable; or None."""
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and not re.search(rf"^{name} *[?:]?=|\$[({{]{name}[)}}]", makefile, re.MULTILINE):
            return f"no variable {name}"
        if not equals and not re.search(rf"^([\w./-]+ +)*{name}( +[\w./-]+)* *:(?!=)", makefile,
                                        re.MULTILINE):
            return f"no target {name}"
    return None


def help_of(module, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main(["--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def python_problem(words, capsys):
    """What is wrong with a call of one of our programs: module, option or choice; or None."""
    script, *arguments = words[1:] if words[0] == "-m" else words
    module = script.removesuffix(".py").replace("/", ".")
    if not (ROOT / (module.replace(".", "/") + ".py")).is_file():
        return f"no module {module}"
    text = help_of(module, capsys)
    for option, value in zip(arguments, [*arguments[1:], ""], strict=False):
        if not option.startswith("-"):
            continue
        found = re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])(?: \{{([^}}]*)\}})?", text)
        if not found:
            return f"{module} has no option {option}"
        if found[1] and value not in found[1].split(","):
            return f"{module} has no {option} {value}"
    return None


def problem(command, capsys):
    """One line on what is wrong with a command of a page, or None."""
    program, *words = command
    if program == "make":
        return make_problem(words)
    if program == "python":
        return python_problem(words, capsys)
    return None if program in SYSTEM else f"unknown program {program}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_exists(command, capsys):
    assert problem(command, capsys) is None


@pytest.mark.parametrize("line", [
    "make bitstreams",
    "make sim MODELS=models/digits.bsnn",
    "python sw/trainer.py",
    "python sw/train.py --dataset digits",
    "python sw/train.py --data mnist",
    "python -m sim.run --model m.bsnn --simulator icarus",
    "vivado",
])
def test_wrong_command_is_noticed(line, capsys):
    (command,) = commands(line)
    assert problem(command, capsys)


def test_readme_keeps_its_promised_number_of_commands():
    demo, bitstream, *_ = blocks(README, "sh")
    assert len(demo.splitlines()) == 2
    assert len(bitstream.splitlines()) == 6


def broken(page, text):
    """Links of a page that lead nowhere; those to other sites are not followed."""
    bad = []
    for link in links(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if link.startswith(("https://", "http://")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            bad.append(link)
    return bad


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    assert broken(page, page.read_text()) == []


def test_broken_links_are_noticed():
    page = ROOT / "README.md"
    text = "[a](docs/no.md) [b](docs/formats.md#no) [c](#no) [d](docs/formats.md#agmm)"
    assert broken(page, text) == ["docs/no.md", "docs/formats.md#no", "#no"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_text_exist(page):
    text = page.read_text()
    names = re.findall(r"`((?:sw|hw|sim|tests|docs)/[\w./-]+\.\w+)`", text)
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page):
    examples = "\n".join(blocks(page.read_text(), "python"))
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert runner.run(test).failed == 0


def test_layer_record_is_that_of_the_program():
    assert layer_record.render(ARCHITECTURE) == ARCHITECTURE


@pytest.mark.parametrize("change", [
    lambda fields: fields[1:],
    lambda fields: (fields[1], fields[0], *fields[2:]),
    lambda fields: (*fields[:-1], replace(fields[-1], bits=fields[-1].bits - 1)),
    lambda fields: (*fields[:-1], replace(fields[-1], word=fields[-1].word + 1)),
    lambda fields: (*fields[:-1], replace(fields[-1], shift=1)),
])
def test_stale_layer_record_is_noticed(change):
    assert layer_record.render(ARCHITECTURE, change(FIELDS)) != ARCHITECTURE


def test_new_field_of_the_layer_record_needs_a_meaning():
    with pytest.raises(KeyError, match="novel"):
        layer_record.render(ARCHITECTURE, (*FIELDS, replace(FIELDS[-1], name="novel")))


def test_results_table_is_that_of_the_builds():
    reports = results.load()
    assert results.render(README, reports) == README
    assert results.render(README, reports[1:]) != README
    for key in ("lut4", "frames_per_s"):
        assert results.render(README, [{**reports[0], key: 1}, *reports[1:]]) != README


def test_engine_table_is_that_of_the_boards():
    rows = table(ARCHITECTURE, "parameter", "icebreaker", "ulx3s-85f")
    names = [row[0].strip("`") for row in rows]
    for column, board in ((1, "icebreaker"), (2, "ulx3s-85f")):
        expected = {
            name: ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            for name, value in ENGINES[board].to_dict().items()
        }
        assert dict(zip(names, (row[column] for row in rows), strict=True)) == expected


def test_protocol_tables_are_those_of_the_port():
    regions = {row[0].strip("`"): int(row[1]) for row in table(PROTOCOL, "region", "number")}
    assert regions == {region.name: region.value for region in Region}
    statuses = {row[0].strip("`"): row[1].strip("`") for row in table(PROTOCOL, "status")}
    assert statuses == {status.name: f"{status.value:02x}" for status in Status}
    rows = table(PROTOCOL, "command", "bytes")
    assert {row[0]: row[1][1:3] for row in rows} == {op.name: f"{op.value:02x}" for op in Opcode}


@pytest.mark.parametrize("board", ENGINES)
def test_cycle_table_is_that_of_the_cycle_model(board):
    """The page's terms for the layers of a built-in network, by hand."""
    engine, network = ENGINES[board], digits()
    pe, simd, lanes, groups = engine.pe, engine.simd, engine.lanes, engine.groups
    conv, stem, readout = (
        sum(map(int, re.findall(r"\d+", row[1])))
        for row in table(ARCHITECTURE, "part", "cycles", "why")[4:]
    )
    head = record_words(engine) + 4
    walks = [(64 * 32 // pe, 9), (64 * 64 // pe, 9 * 32 // simd), (16 * 64 // pe, 9 * 64 // simd),
             (-(-10 // pe), 4 * 64)]
    walks = [(tiles - 1) * max(words, groups) + words for tiles, words in walks]
    gain = 19 * lanes
    expected = [
        head + walks[0] + stem + groups + lanes,
        head + gain + walks[1] + conv + groups + lanes,
        head + gain + walks[2] + conv + groups + lanes,
        head + walks[3] + readout + groups,
    ]
    assert [layer_cycles(network, i, engine) for i in range(4)] == expected
