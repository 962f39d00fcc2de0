"""`table`: Markdown, LaTeX and CSV, and what in the published figures contradicts itself."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.methods import METHODS
from tests.bundle_runner import ROOT
from tests.tools.trainings import leave_run
from tools.table.published import AVERAGE, read_published

Table = Callable[..., str]
NASTY = r"50% of a\x_{1} #3 & $5 ~ ^ <a> ±"
LATEX_COMMANDS = re.compile(
    r"begin|end|centering|small|caption|textwidth|toprule|midrule|bottomrule|multicolumn|textbf|underline|textit|pm"
    r"|d?dagger|par|medskip|raggedright|footnotesize|textbackslash|textasciitilde|textasciicircum"
)


def latex_faults(text: str) -> list[str]:
    """What would stop LaTeX: groups and environments that do not close, rows of the wrong width, bare specials."""
    faults, environments, width = [], [], 0
    for line in filter(lambda line: not line.startswith("%"), text.splitlines()):
        bare = re.sub(r"\\[&%_#{}$]", "", line)
        if bare.count("{") != bare.count("}"):
            faults.append(f"braces: {line}")
        environments += re.findall(r"\\begin\{([\w*]+)\}", bare)
        for name in re.findall(r"\\end\{([\w*]+)\}", bare):
            if not environments or environments.pop() != name:
                faults.append(f"end of {name}: {line}")
        if r"\begin{tabular}" in bare:
            width = len(bare.split("{")[2].strip("}"))
        if bare.endswith(r"\\"):
            spans = [int(columns) - 1 for columns in re.findall(r"\\multicolumn\{(\d+)\}", bare)]
            if bare.count("&") + 1 + sum(spans) != width:
                faults.append(f"width: {line}")
        elif "&" in bare:
            faults.append(f"outside of a row: {line}")
        mathematics = re.sub(r"\$[^$]*\$", "", bare)
        faults += [f"bare {letter}: {line}" for letter in "%#$^_~<>±†‡" if letter in mathematics]
        faults += [f"unknown: {name}" for name in re.findall(r"\\([a-z]+)", bare) if not LATEX_COMMANDS.fullmatch(name)]
    return faults + [f"open {name}" for name in environments]


@pytest.mark.parametrize("text", [r"a & b \\", "50 %x", r"\begin{tabular}{lr}", r"\textbf{1", "a_1", r"\foo", "±"])
def test_what_stops_latex_is_recognised(text: str) -> None:
    assert latex_faults(f"x {text}")


def test_latex_escapes_what_it_has_to_and_closes_what_it_opens(output: Path, table: Table) -> None:
    for seed in (0, 1):
        leave_run(output, "fully_supervised", seed, jaccard=(0.8, 0.5, 0.2))
        leave_run(output, "dca_no_dfam", seed, jaccard=(0.8, 0.5, 0.2))
    leave_run(output, "cps", dice=None, state={"state": "failed", "error": NASTY})
    text = table("--format", "latex")
    assert latex_faults(text) == []
    assert r"ACDC, 10 \% labelled" in text
    assert r"60.00 $\pm$ 0.00 [60.00, 60.00] (91.31)" in text
    assert r"(83.18$\dagger$$\ddagger$)" in text
    escaped = r"50\% of a\textbackslash{}x\_\{1\} \#3 \& \$5 \textasciitilde{} \textasciicircum{} $<$a$>$ $\pm$"
    assert f"not in the table: cps seed 0 (failed: {escaped})" in text


def test_marks_of_latex_are_bold_underlined_and_italic(output: Path, table: Table) -> None:
    for method, dice in {"supervised": 0.2, "cps": 0.3, "dhc": 0.4, "dca": 0.5}.items():
        leave_run(output, method, dice=(dice,) * 3)
    text = table("--format", "latex")
    rows = {line.split(" & ")[0]: line.split(" & ")[1] for line in text.splitlines()[:20] if " & " in line}
    assert rows["DCA"].startswith(r"\textbf{50.00} [50.00, 50.00] (")
    assert rows["DHC"].startswith(r"\underline{40.00} [40.00, 40.00] (")
    assert rows["CPS"].startswith(r"\textit{30.00} [30.00, 30.00] (")
    assert rows["labels only"].startswith("20.00 [20.00, 20.00]")


def test_csv_holds_what_the_table_shows(output: Path, table: Table) -> None:
    dice = {"supervised": [(0.9, 0.6, 0.3), (0.5, 0.6, 0.1)], "cps": [(0.7, 0.8, 0.6)] * 2, "nova": [(0, 0, 0)] * 2}
    for method, seeds in dice.items():
        for seed, figures in enumerate(seeds):
            leave_run(output, method, seed, figures, jaccard=(0.5, 0.4, 0.3))
    leave_run(output, "dca", dice=None)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(table("--format", "csv")))}
    assert [*rows] == ["supervised", "cps", "nova"]
    alone, cps, nova = rows.values()
    assert (alone["group"], alone["method"], alone["seeds"]) == ("Supervised", "labels only", "0 1")
    assert (alone["dice average"], alone["dice average std"]) == ("50.0000", "10.0000")
    assert (alone["dice right ventricle"], alone["dice right ventricle std"]) == ("70.0000", "20.0000")
    assert (alone["dice average low"], alone["dice average high"]) == ("40.0000", "60.0000")
    assert [row["dice left ventricle rank"] for row in rows.values()] == ["2", "1", "3"]
    assert (cps["dice average published"], cps["dice average contradiction"]) == ("86.92", "")
    assert (cps["jaccard myocardium published"], cps["jaccard myocardium contradiction"]) == ("72.68", "jaccard")
    assert nova["dice average published"] == ""
    assert all(
        row["scored"] == "validation" and row["not_in_the_table"] == "dca seed 0 (done)" for row in rows.values()
    )
    assert (nova["data"], nova["percent"], nova["steps"], nova["preset"]) == ("ACDC", "10", "1500", "cpu")
    shown = set(re.findall(r"\d+\.\d\d", table().split("\n- ")[0]))
    held = {value for row in rows.values() for key, value in row.items() if key[:4] in ("dice", "jacc") and value}
    assert shown <= {f"{float(value):.2f}" for value in held if value != "jaccard"}


def test_contradictions_of_the_published_rows_are_those_that_are_known() -> None:
    """Against a list made by hand from the tables, of averages off by more than rounding and impossible Jaccards."""
    tables = read_published()
    averages = {
        (data, percent, row.method): [*row.wrong_averages()]
        for (data, percent), rows in tables.items()
        for row in rows.values()
        if row.wrong_averages()
    }
    dice, jaccard = [("dice", AVERAGE)], [("jaccard", AVERAGE)]
    assert averages == {
        ("acdc", 5, "U-Net"): jaccard,
        ("acdc", 10, "U-Net"): jaccard,
        **{("synapse", 10, method): dice for method in ("BCP", "ABD", "beta-FFT", "DCA")},
        **{("amos", 2, method): dice for method in ("BCP", "ABD")},
    }
    initials = {"right ventricle": "R", "myocardium": "M", "left ventricle": "L"}
    impossible = {
        percent: {
            row.method: "".join(initials[region] for _, region in row.impossible_jaccards() if region != AVERAGE)
            for row in tables["acdc", percent].values()
            if row.impossible_jaccards()
        }
        for percent in (5.0, 10.0)
    }
    assert impossible[5] == {"U-Net": "M", "BCP": "RML", "ABD": "M", "beta-FFT": "RML"}
    three = dict.fromkeys(("UA-MT", "CPS", "SS-Net", "Basak et al.", "DHC"), "RML")
    assert impossible[10] == {"U-Net": "M", "BCP": "M", "beta-FFT": "ML", "DCA": "M"} | three
    dca = tables["synapse", 10]["dca"]
    assert dca.wrong_averages() == {("dice", AVERAGE): "dice 62.18, mean of its classes 67.45"}
    assert tables["acdc", 10]["dca"].impossible_jaccards() == {
        ("jaccard", "myocardium"): "myocardium 82.41, at least 82.60"
    }


def test_a_flag_stands_at_the_published_figure_that_is_contradicted(output: Path, table: Table) -> None:
    leave_run(output, "dca", jaccard=(0.8, 0.5, 0.2))
    text = table()
    assert re.findall(r"\(([\d.]+)‡\)", text) == ["82.41"]  # the myocardium's
    assert "- ‡ the published Jaccard is below what the Dice beside it allows: DCA (myocardium 82.41, at least" in text
    assert "†" not in text


def test_published_rows_have_the_names_that_the_project_uses() -> None:
    tables = read_published()
    for bundle in ("acdc", "synapse", "amos"):
        config = json.loads((ROOT / "bundles" / f"dca_{bundle}" / "configs" / "data_set.json").read_text())
        rows = [row for (data, _), table in tables.items() if data == bundle for row in table.values()]
        regions = {region for row in rows for _, region in row.figures}
        assert regions == {*config["labels"].values(), AVERAGE}
    names = {name for table in tables.values() for name in table}
    own = {"mean_teacher_cp", "self_training", "fixmatch", "unimatch", "tak"}  # which the paper does not compare with
    assert {*METHODS} - own <= names
