"""Malformed images at random: three thousand, and loaders that leave out a check."""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

import pytest

from sw import image
from tests.support import loaded_modules
from tests.sw.fuzz_image import __main__ as command
from tests.sw.fuzz_image import judge, run
from tests.sw.fuzz_image.mutations import MUTATIONS


def last_of(reports):
    *_, report = reports
    return report


def test_three_thousand_malformed_images():
    report = last_of(run.run(3000, seed=2, jobs=0))
    assert report["failures"] == []
    assert sum(report["outcomes"].values()) == report["cases"] == 3000
    assert set(report["mutations"]) == set(MUTATIONS)
    outcomes = report["outcomes"]
    assert len(outcomes) > 50 and outcomes["loaded, and runs"] > 200
    assert outcomes["loaded, and refused by the bounds"] > 10


def slow(path):
    while True:
        pass


def warn(path, load=image.load):
    warnings.warn("odd", stacklevel=1)
    return load(path)


def several_lines(path):
    raise image.ImageError(f"{path}: two\nlines")


@pytest.mark.parametrize("name, broken, wrong", [
    ("_check_tables", lambda image: None, "is not of its weights"),
    ("_once", dict, "stands twice"),
    ("_one_line", str, "not one line"),
    ("_text", lambda header: "", "is not what the file says"),
    ("load", slow, "takes more than"), ("load", warn, "UserWarning: odd"),
    ("load", several_lines, "not one line"),
], ids=["tables", "twice", "one line", "header", "hang", "warning", "lines"])
def test_a_loader_that_leaves_out_a_check_is_caught(monkeypatch, name, broken, wrong):
    monkeypatch.setattr(image, name, broken)
    monkeypatch.setattr(judge, "PATIENCE_S", 0.05 if broken is slow else 5)
    cases = 5 if name == "load" else 2500
    for report in run.run(cases, seed=2, jobs=0):
        if any(wrong in failure["what"] for failure in report["failures"]):
            return
    pytest.fail(f"not caught: {report['failures']}")


def test_memory_is_limited():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, run._limit_memory) as pool:
        assert len(pool.submit(bytes, run.MEMORY // 4).result()) == run.MEMORY // 4
        with pytest.raises(MemoryError):
            pool.submit(bytes, 2 * run.MEMORY).result()


def test_a_run_goes_on_where_it_was_stopped():
    whole = last_of(run.run(1000, seed=4, jobs=0))
    half = last_of(run.run(500, seed=4, jobs=0))
    again = last_of(run.run(1000, seed=4, jobs=0, before=half))

    def found(report):
        # Of several faults of one header, safetensors tells any.
        outcomes = report["outcomes"]
        loaded = [outcomes[name] for name in sorted(outcomes) if name.startswith("loaded")]
        return report["cases"], report["mutations"], loaded, sum(outcomes.values())

    assert found(again) == found(whole) != found(half)


def test_a_finished_run_says_again_what_it_found(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "fuzz.json")
    arguments = ["--cases", "500", "--jobs", "0"]
    assert command.main(arguments) == 0
    said, kept = capfd.readouterr().out, (tmp_path / "fuzz.json").read_text()
    assert said.startswith("500 files: 0 failures; ")
    assert command.main(arguments) == 0
    assert capfd.readouterr().out == said and (tmp_path / "fuzz.json").read_text() == kept
    # Of another seed there is nothing yet.
    assert command.main([*arguments, "--seed", "2"]) == 0
    assert (tmp_path / "fuzz.json").read_text() != kept


def test_the_digest_covers_all_that_loads_an_image():
    assert set(loaded_modules("sw.image")) == {module.__name__ for module in run.LOADING}
