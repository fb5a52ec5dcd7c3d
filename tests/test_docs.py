"""README and docs: commands exist, links lead somewhere, tables are those of the code."""

import doctest
import importlib
import json
import random
import re
import sys
from dataclasses import replace

import pytest
import torch

from hw.boards import BOARDS
from sw import data, image
from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import ENGINES, Engine, boards_of
from sw.layers import Conv, Events, Network, Readout, Shape
from sw.model import SpikingNetwork
from sw.networks import BUILTIN, cnv, digits, fashion_mnist, resnet19
from sw.program import Region
from sw.protocol import INFO_BYTES, VERSION, Flags, Opcode, Status, encode_info
from sw.record import EVERY_FIELD, record_words
from sw.size import size_report
from tests.hw.support import play
from tests.readme import PAGES, ROOT, anchors, blocks, commands, links, table
from tests.support import BOARD_ENGINES, random_image

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()


# The scripts of docs/ are no package; they find each other as when one of them is run.
sys.path.append(str(ROOT / "docs"))
experiments, layer_record, results, popcounts, zero_words = map(
    importlib.import_module, ("experiments", "layer_record", "results", "popcounts", "zero_words")
)

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
        used = rf"^{name} *[?:]?=|\$[({{]{name}[:)}}]"
        if equals and not re.search(used, makefile, re.MULTILINE):
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
    place = ROOT / module.replace(".", "/")
    if (place / "__main__.py").is_file():
        module += ".__main__"
    elif not place.with_suffix(".py").is_file():
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
    assert layer_record.render(ARCHITECTURE, change(EVERY_FIELD)) != ARCHITECTURE


def test_new_field_of_the_layer_record_needs_a_meaning():
    with pytest.raises(KeyError, match="novel"):
        layer_record.render(ARCHITECTURE, (*EVERY_FIELD, replace(EVERY_FIELD[-1], name="novel")))


@pytest.mark.parametrize("network, board", [
    (fashion_mnist(), "icebreaker"), (cnv(), "ulx3s-85f"),
], ids=lambda value: getattr(value, "name", value))
def test_what_exact_gains_cost_is_what_the_page_says(network, board):
    engine = ENGINES[board]
    ahead = engine.stem is not None
    exact, frozen = (cycles_per_frame(network, engine, gain, ahead) for gain in (True, False))
    pattern = rf"{exact - frozen} of the {exact:,}( cycles)? of `{network.name}`"
    assert re.search(pattern, ARCHITECTURE.replace("\n", " "))


def test_popcounts_are_those_of_the_sources():
    report = json.loads(popcounts.RESULTS.read_text())
    assert report["source"] == popcounts.digest()
    assert popcounts.render(ARCHITECTURE, report) == ARCHITECTURE
    wrong = [{**report["popcounts"][0], "lut4": 1}, *report["popcounts"][1:]]
    assert popcounts.render(ARCHITECTURE, {**report, "popcounts": wrong}) != ARCHITECTURE


def test_popcounts_that_are_compared_count_alike():
    """Each kind against the number of positions that agree, in Amaranth's simulator."""
    rng = random.Random(3)
    words = [(0, 0), (0, 0xFFFF), *((rng.getrandbits(16), rng.getrandbits(16)) for _ in range(50))]
    for component, _ in popcounts.KINDS.values():
        rows = play(
            component(16), [dict(spikes=a, weights=b) for a, b in [*words, (0, 0)]], ["count"]
        )
        expected = [(~(a ^ b) & 0xFFFF).bit_count() for a, b in words]
        assert [count for (count,) in rows[1:]] == expected


def test_zero_words_are_those_of_the_sources():
    report = json.loads(zero_words.RESULTS.read_text())
    assert report["source"] == zero_words.digest()
    assert zero_words.render(ARCHITECTURE, report) == ARCHITECTURE
    for key in ("cases", "costs"):
        wrong = [{**report[key][0], "now": 1, "lut4": 1}, *report[key][1:]]
        assert zero_words.render(ARCHITECTURE, {**report, key: wrong}) != ARCHITECTURE
    for row in report["cases"]:
        engine, network = ENGINES[row["board"]], BUILTIN[row["model"]]()
        cycles = [layer_cycles(network, index, engine) for index in range(len(network.layers))]
        assert row["now"] == sum(cycles[engine.stem is not None :])
    (digits,) = (row for row in report["cases"] if row["model"] == "digits")
    model, engine = image.load(ROOT / "models/digits.bsnn"), ENGINES[digits["board"]]
    frames, _ = data.load("digits", "test")
    assert zero_words.case(model, engine, frames[: report["images"]]).items() <= digits.items()


def test_words_of_zeros_by_hand():
    """A 3 x 3 kernel on 2 x 2 pixels of two words each: 4 of 9 taps are inside, with one spike."""
    engine = Engine(
        pe=4, simd=8, lanes=4, weight_depth=64, spike_depth=64, channel_depth=64, mean_depth=64
    )
    network = Network("hand", Shape(1, 2, 2), [Events(16 - 1), Conv(5), Readout(2)], T=2)
    frames = torch.zeros(1, 2, 1, 2, 2, dtype=torch.uint8)
    frames[0, 1, 0, 1, 1] = 1
    found = zero_words.case(random_image(network), engine, frames)
    # Four windows, two tiles each: 18 words now, 8 without padding, 17 - 6 with one word inside.
    assert found["now"] - found["padding"] == 4 * 2 * (18 - 8)
    assert found["now"] - found["real"] == 4 * 2 * (8 - 1)
    assert found["now"] - found["best"] == 4 * 2 * (18 - 4)


def test_spike_counts_make_sums_of_and_counts():
    rng, engine = random.Random(4), Engine(
        pe=4, simd=8, lanes=4, weight_depth=64, spike_depth=64, channel_depth=64, mean_depth=64
    )
    spikes = [rng.getrandbits(32) for _ in range(5)] + [0]
    weights = [rng.getrandbits(8) for _ in spikes]
    lanes = [[sum((word >> 4 * c + t & 1) << c for c in range(8)) for word in spikes]
             for t in range(4)]
    counts = [sum((s & w).bit_count() for s, w in zip(lane, weights, strict=True))
              for lane in lanes]
    sums = [sum((s & w).bit_count() - (s & ~w).bit_count()
                for s, w in zip(lane, weights, strict=True)) for lane in lanes]
    rows = play(zero_words.SpikeCount(engine), [
        dict(spikes=word, first=cycle == 1, last=cycle == 6, counts=[counts])
        for cycle, word in enumerate([*spikes, 3, 3])
    ], ["sums", "zero"])
    assert rows[7][0] == [[value % (1 << 12) for value in sums]]
    assert [zero for _, zero in rows[1:7]] == [not word for word in spikes]


def test_experiments_are_those_of_the_runs():
    text, reports = experiments.PAGE.read_text(), experiments.load()
    speeds = json.loads(experiments.THROUGHPUT.read_text())
    parts = experiments.blocks(reports, speeds)
    assert reports and experiments.render(text, parts) == text
    for name, report in reports.items():
        assert (experiments.PICTURES / f"{name}.png").is_file()
        fewer = {"runs": dict([*report["runs"].items()][1:])}
        if report["experiment"] == "sweep":
            fewer = {"settings": report["settings"][1:]}
        changed = experiments.blocks({name: {**report, **fewer}}, speeds)
        assert experiments.render(text, changed) != text
    faster = experiments.blocks({}, {**speeds, "ours_images_per_s": 1e6})
    assert experiments.render(text, faster) != text
    with pytest.raises(ValueError, match="has no place for other"):
        experiments.render(text, {"other": ""})


def test_table_2_of_the_agmm_paper():
    rows = table(experiments.PAGE.read_text(), "network", "MB", "MB, paper")
    sizes = {name: (ours, papers) for name, ours, papers, *_ in rows}
    assert sizes["AGMM-BSNN"] == ("2.46", "2.46") and sizes["FP-SNN"] == ("50.46", "50.46")
    # Three of the four bytes of each weight of the last layer.
    size = size_report(SpikingNetwork(resnet19().replace(neuron="vanilla")))
    assert f"{(size.packed_bytes - 3 * 512 * 100) / 1e6:.2f}" == sizes["vanilla BSNN"][1] == "2.31"
    for *_, fp32, _, fitted, printed in rows:
        assert float(fitted) == pytest.approx(float(printed), abs=0.0011)
        assert float(fp32) > 2 * float(printed)


def test_seeds_table_is_that_of_the_runs():
    reports = results.load_seeds()
    assert len(reports) and results.render_seeds(README, reports) == README
    for key in ("min", "median", "max"):
        assert results.render_seeds(README, [{**reports[0], key: 1}, *reports[1:]]) != README
    some = {**reports[0], "fmax_mhz": {"1": 30.0, "2": None, "3": 31.0}}
    assert "| 3, 1 not routed |" in results.render_seeds(README, [some, *reports[1:]])


def test_proofs_table_is_that_of_the_proofs():
    report = results.load_proofs()
    page = results.PROOFS_PAGE.read_text()
    assert report["proofs"] and results.render_proofs(page, report) == page
    assert f"{len(report['proofs'])} proofs by" in README
    fewer = dict(list(report["proofs"].items())[1:])
    assert results.render_proofs(page, {**report, "proofs": fewer}) != page


def test_results_table_is_that_of_the_builds():
    assert results.render(README, results.load()) == README
    # Of boards that share an engine, the first.
    reports = [report for report in results.load() if report["board"] in BOARD_ENGINES]
    assert {report["board"] for report in results.load()} - BOARD_ENGINES.keys()
    assert results.render(README, reports) == README
    assert results.render(README, reports[1:]) != README
    for key in ("lut4", "frames_per_s"):
        assert results.render(README, [{**reports[0], key: 1}, *reports[1:]]) != README
    assert results.render_layers(ARCHITECTURE, reports) == ARCHITECTURE
    shapes = [report for report in reports if report["model"] == "cnv"]
    others = [{**report, "layers": report["layers"][1:]} for report in shapes]
    assert results.render_layers(ARCHITECTURE, others) != ARCHITECTURE
    swapped = [{**a, "board": b["board"]} for a, b in zip(shapes, shapes[::-1], strict=True)]
    assert results.render_layers(ARCHITECTURE, swapped[::-1]) != ARCHITECTURE


def test_boards_table_is_that_of_the_boards():
    reports = results.load()
    assert results.render_boards(README, reports) == README
    index = [report["board"] for report in reports].index("icesugar")
    for key in ("fmax_mhz", "frames_per_s"):
        changed = [*reports]
        changed[index:index + 2] = [{**report, key: 1e6} for report in reports[index:index + 2]]
        assert results.render_boards(README, changed) != README
    missing = results.render_boards(README, [*reports[:index], *reports[index + 2:]])
    assert missing.count("not built") == README.count("not built") + 4
    rows = {row[0].strip("`"): row for row in table(README, *results.BOARD_COLUMNS)}
    assert rows.keys() == BOARDS.keys()
    assert rows["orangecrab"][4] == "N17, M18: 1 Mbaud"
    assert rows["colorlight-5a-75b"][5] == "none"


def test_boards_of_the_help_are_all():
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"\[BOARD=(icebreaker\|.*?)\]", makefile, re.S)[1]
    names = re.split(r"\|", re.sub(r"'\n\t@echo ' *", "", listed))
    assert names == [*BOARDS]


def shown(engine):
    """The cells of an engine's column, by parameter; of a stem core, what it has otherwise."""
    cells = {}
    for name, value in engine.to_dict().items():
        if isinstance(value, dict):
            cells[name] = ", ".join(f"`{key}` {size}" for key, size in engine.stem.sizes.items())
        elif isinstance(value, tuple):
            cells[name] = ", ".join(map(str, value))
        elif isinstance(value, bool):
            cells[name] = "yes" if value else "no"
        else:
            cells[name] = "none" if value is None else str(value)
    return cells


def test_engine_table_is_that_of_the_boards():
    """A column an engine, under the names of all boards that carry it."""
    heads = [", ".join(boards_of(engine)) for engine in BOARD_ENGINES.values()]
    rows = table(ARCHITECTURE, "parameter", *heads)
    names = [row[0].strip("`") for row in rows]
    for column, engine in enumerate(BOARD_ENGINES.values(), 1):
        assert dict(zip(names, (row[column] for row in rows), strict=True)) == shown(engine)


def test_columns_of_the_engine_table():
    plain = Engine(
        pe=4, simd=8, lanes=4, weight_depth=16, spike_depth=32, channel_depth=64, mean_depth=128,
        layer_depth=2, leak_shifts=(1, 2), deep=True,
    )
    column = {
        "pe": "4", "simd": "8", "lanes": "4", "pixels": "1", "passes": "1",
        "weight_depth": "16", "spike_depth": "32",
        "channel_depth": "64", "mean_depth": "128", "frame_depth": "512", "units": "1",
        "layer_depth": "2", "current_width": "16", "leak_shifts": "1, 2", "deep": "yes",
        "stem": "none", "stream_depth": "0",
    }
    assert shown(plain) == column
    stem = "`pe` 8, `units` 1, `weight_depth` 16, `channel_depth` 64, `mean_depth` 6"
    cores = replace(plain, stem=plain.stem_core(pe=8, mean_depth=6))
    assert shown(cores) == {**column, "stem": stem}


def test_protocol_tables_are_those_of_the_port():
    regions = {row[0].strip("`"): int(row[1]) for row in table(PROTOCOL, "region", "number")}
    assert regions == {region.name: region.value for region in Region}
    memories = [row[0].strip("`") for row in table(ARCHITECTURE, "region", "word")]
    assert memories == [region.name for region in Region]
    flags = {row[0].strip("`"): int(row[1]) for row in table(PROTOCOL, "flag", "value")}
    assert flags == {flag.name: flag.value for flag in Flags}
    statuses = {row[0].strip("`"): row[1].strip("`") for row in table(PROTOCOL, "status")}
    assert statuses == {status.name: f"{status.value:02x}" for status in Status}
    rows = table(PROTOCOL, "command", "bytes")
    assert {row[0]: row[1][1:3] for row in rows} == {op.name: f"{op.value:02x}" for op in Opcode}


def test_info_is_laid_out_as_the_page_says():
    """Every parameter at its place, in engines whose sizes all differ."""
    (cell,) = (row[2] for row in table(PROTOCOL, "command", "bytes") if row[0] == "INFO")
    engine = Engine(
        pe=16, simd=64, lanes=8, units=2, layer_depth=5, current_width=17, leak_shifts=(0, 3),
        deep=True, weight_depth=257, spike_depth=1024, frame_depth=259, channel_depth=260,
        mean_depth=262,
    )
    cores = replace(engine, stem=engine.stem_core(
        pe=4, units=1, weight_depth=263, channel_depth=264, mean_depth=265
    ))
    streams = replace(engine, stream_depth=266)
    own, of_stem, without = re.split("; then of the stem core|; without one, zeros and", cell)

    def listed(text, owner):
        return [
            (VERSION if name == "version" else getattr(owner, name), int(size))
            for name, size in re.findall(r"`(\w+)` (\d)", text)
        ]

    (stream,), core = listed(without, streams), listed(of_stem, cores.stem)
    zeros = [(0, size) for _, size in core[:-1]]
    for values, of in (
        ([*listed(own, cores), *core], cores), ([*listed(own, streams), *zeros, stream], streams),
    ):
        expected = b"".join(
            (0b1001 if value == (0, 3) else value).to_bytes(size, "little")
            for value, size in values
        )
        assert encode_info(of) == expected
        assert len(expected) == INFO_BYTES
    assert f"`version` 1, which is {VERSION}," in cell


@pytest.mark.parametrize("board", [
    name for name, engine in BOARD_ENGINES.items() if engine.exact_gain
])
def test_cycle_table_is_that_of_the_cycle_model(board):
    """The page's terms for the layers of a built-in network, by hand."""
    engine, network = ENGINES[board], digits()
    first = engine.stem or engine
    pe, simd, units, lanes = engine.pe, engine.simd, engine.units, engine.lanes
    terms = {
        row[0]: sum(map(int, re.findall(r"\d+", row[1])))
        for row in table(ARCHITECTURE, "part", "cycles", "why")
    }
    head = record_words(engine) + terms["setup"]
    # Classes in sets of units, a group a plane.
    planes = 8 * -(-10 // units)
    tiles = -(-planes // (pe // units))
    walks = [(64 * -(-32 // first.pe), 9), (64 * -(-64 // pe), 9 * -(-32 // simd)),
             (16 * -(-64 // pe), 9 * -(-64 // simd)), (tiles, 4 * -(-64 // simd))]
    groups = [first.pe // first.units, *[pe // units] * 3]
    walks = [
        (tiles - 1) * max(words, least) + words
        for (tiles, words), least in zip(walks, groups, strict=True)
    ]
    gain, deep = terms["gain"] * lanes, terms["deep"] * engine.deep
    latency = lanes + terms["stream"] * engine.has_stream
    expected = [
        head + walks[0] + terms["drain, stem"] + groups[0] + latency,
        head + gain + walks[1] + terms["drain, convolution"] + groups[1] + latency + deep,
        head + gain + walks[2] + terms["drain, convolution"] + groups[2] + latency + deep,
        head + walks[3] + terms["drain, readout"] + planes - (tiles - 1) * groups[3] + deep,
    ]
    assert [layer_cycles(network, i, engine) for i in range(4)] == expected


def test_errors_of_estimates_are_those_measured():
    report = results.load_estimator()
    assert results.render_estimates(ARCHITECTURE, report) == ARCHITECTURE
    for kind in report["kinds"]:
        changed = json.loads(json.dumps(report))
        changed["kinds"][kind]["heldout"]["lut4"]["error"] += 0.01
        assert results.render_estimates(ARCHITECTURE, changed) != ARCHITECTURE
    count, error = report["heldout_n"], report["heldout_lut_error"]
    told = f"{count} engines that the fit has not seen were off by {error:.1%}"
    assert told in " ".join(README.split())
