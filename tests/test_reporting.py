"""How runs show themselves, what is drawn and written from them, and when it no longer follows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scaling as sc
from scaling import provenance, show
from scaling.cli import main
from scaling.compute import Shape
from scaling.curves import Curve
from scaling.figures import plots
from scaling.figures.gallery import FIGURES
from scaling.figures.viewer import problem_html
from scaling.fits import fit, forecast
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.report import differences, stale
from scaling.report.figures import draw
from scaling.report.numbers import Entry, entries, from_csv, printed, results, row, to_csv
from scaling.report.render import HTML, LATEX, render, tex, unbound
from scaling.runs import Runs, load_run
from scaling.store import open_run
from scaling.store.files import RECORD
from tests.conftest import few_replicates

ROOT = Path(__file__).parents[1]
HOSTILE = "<script>alert(1)</script>\\input{/etc/passwd}$^_%&#~{\"'`\u0007\x00\r\n日本😀 0.123"
LLAMA = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 1, "intermediate_size": 64, "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few():
    with pytest.MonkeyPatch.context() as patch:
        few_replicates(patch)
        yield


def made(root: Path, method="best_of_n", chains=16, steps=1, seed=0, text=HOSTILE, stop=()):
    """Return a sealed run of 12 problems, the harder the higher its number, with hostile texts."""
    rng = np.random.default_rng(seed)
    card = ModelCard("tiny<b>&$/1e9", 1000, 800, 1e9, 10, vars(Shape.from_config(LLAMA)), "x")
    problems = [Problem(f"p{i:02}", f"{i}? {HOSTILE}", HOSTILE, f"{i % 2}x") for i in range(12)]
    plan = Plan(method=method, chains=chains, steps=steps, max_new_tokens=8, seed=seed, stop=stop)
    with open_run(root, task="planted", card=card, plan=plan, problems=problems) as writer:
        samples = []
        for i, problem in enumerate(problems):
            for chain in range(chains):
                for step in range(steps):
                    right = bool(rng.random() < 1 / (1 + np.exp(0.4 * (i - 5))))
                    text_written = ("=42 " if right else "=41 ") + text
                    row = problem.id, chain, step, text_written, "42" if right else "41", right
                    tokens = 5 + 4 * step, 4 * step, 4
                    samples.append(Sample(*row, -1.0 - chain, -1.0, *tokens, 0.01, "stop"))
        writer.write(samples)
        return load_run(writer.seal())


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    made(root)
    made(root, "revision", 3, 4)
    return root


@pytest.fixture(scope="module")
def best(root) -> Path:
    """Return the folder of the best-of-N run."""
    return next(run.path for run in Runs.load(root) if run.plan.method == "best_of_n")


@pytest.fixture(scope="module")
def report(root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    Runs.load(root).report(out)
    return out


class Strict(HTMLParser):
    """Collects tags, and what their text says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.words.append(data)


# ---------------------------------------------------------------- nouns show themselves
def test_runs_curves_and_fits_show_what_they_hold_and_escape_it(best):
    run = load_run(best)
    points = run.curve()
    shown = [noun._repr_html_() for noun in (run, points, fit("exp_power", points))]
    for text in shown:
        tags = Strict(text).tags
        assert "script" not in tags
        assert "b" in tags  # the title's; the one in the model's name is escaped
        assert "tiny<b>" not in text
    assert "192" in shown[0], "samples of the run"
    low, high = points.low[-1], points.high[-1]
    assert show.with_interval(points.y[-1], low, high) in shown[1]


def test_curves_and_fits_print_in_one_line_without_their_replicates(best):
    points = load_run(best).curve()
    low, high = points.low[-1], points.high[-1]
    assert repr(points).endswith(f"{show.with_interval(points.y[-1], low, high)} at 16 samples)")
    assert "5 points, 12 problems" in repr(points)
    found = fit("exp_power", points)
    assert repr(found).startswith("Fit(exp_power: y = exp(-(x / ")
    assert all(len(repr(noun)) < 200 and "\n" not in repr(noun) for noun in (points, found))
    empty = np.zeros(0)
    assert repr(Curve(empty, empty, empty, empty, empty)) == "Curve(0 points, 0 problems)"


def test_frames_hold_what_the_nouns_hold(best):
    points = load_run(best).curve(unit="tokens")
    frame = points.frame
    assert list(frame.columns) == ["tokens", "accuracy", "low", "high", "n_problems"]
    np.testing.assert_array_equal(frame["accuracy"], points.y)
    fitted = fit("exp_power", points)
    assert dict(zip(fitted.frame["parameter"], fitted.frame["estimate"], strict=True)) == (
        fitted.params
    )
    for name, (value, *_) in fitted.numbers.items():
        assert re.search(rf"{name}\s+{re.escape(show.number(value))}", str(fitted))


def test_the_small_picture_puts_one_on_top_and_leaves_out_what_is_not_known():
    picture = show.picture([1, 2, 4], [0.0, np.nan, 1.0], [0, 0, 1], [0, 1, 1])
    points = re.search(r'polyline points="([^"]*)"', picture)[1].split()
    tops = [float(point.split(",")[1]) for point in points]
    assert tops == [show.HEIGHT - 4, 4]


def rendered(html: str) -> list[str]:
    """Return the runs of text between tags, in which a notebook looks for mathematics."""
    return [unescape(part) for part in re.split(r"<[^>]*>", html)]


@pytest.mark.parametrize("text", ["$50 and spent $18", r"\(x\) and \[y\]", r"$$a$$ \begin{b}"])
def test_dollars_and_backslashes_are_shown_and_never_typeset(text):
    """A notebook showed "50 and spent" of a word problem in italics, without its dollar signs."""
    views = (show.card(text, {text: text}), show.table_html([{text: text}]), show.verbatim(text))
    for html in views:
        parts = rendered(html)
        assert text in "".join(parts)
        assert not any(len(part) > 1 and set(part) & {"$", "\\"} for part in parts)
    assert all("tex2jax_ignore" in html and "mathjax_ignore" in html for html in views[:2])


def test_the_viewer_marks_where_a_wrong_draft_leaves_every_right_one(best):
    run = load_run(best, text=True)
    html = problem_html(run, "p05")
    words = Strict(html)
    assert "script" not in words.tags
    assert html.count("✓") + html.count("✗") == 16
    wrong = re.findall(r"✗</span> (.*?)<u", html)
    assert set(wrong) == {"=4"}, "=42 and =41 part after =4"
    with pytest.raises(ValueError, match=r"no problem 'p99'"):
        problem_html(run, "p99")
    with pytest.raises(ValueError, match="text=True"):
        problem_html(load_run(run.path), "p05")


def test_a_search_is_shown_as_its_tree_with_each_nodes_own_step_and_score(best):
    run = load_run(best, text=True)
    nodes = [("a;", "stop"), ("b<;", "discarded"), ("a;c", "stop"), ("a;d", "discarded")]
    rows = [("p05", 0, i, text, finish, False, 0.0) for i, (text, finish) in enumerate(nodes)]
    rows += [("p05", 0, 8 + i, "", "scored", False, -i - 0.5) for i in range(4)]
    columns = ["problem", "chain", "step", "text", "finish", "correct", "logprob"]
    searched = replace(
        run, samples=pd.DataFrame(rows, columns=columns), plan=replace(run.plan, steps=8, width=2)
    )
    lines = re.findall(
        r"padding-left:(\d)em.*?(●|○) (.*?)</span> <i>(.*?)</i>", problem_html(searched, "p05")
    )
    assert lines == [
        ("0", "●", "a;", "-0.50"),
        ("1", "●", "c", "-2.50"),
        ("1", "○", "d", "-3.50"),
        ("0", "○", "b&lt;;", "-1.50"),
    ]


# ---------------------------------------------------------------- figures
def drawn(root: Path, folder: Path, redraw: str = plots.REDRAW) -> list[Path]:
    study = Runs.load(root)
    points = study.curve(study[0], "coverage", "tokens", "all")
    with plots.style():
        fig, axes = plots.figure(1, 2, height=2.6)
        fitted, _ = forecast("exp_power", points, 0.5)
        plots.draw_forecast(axes[0][0], points, fitted)
        plots.draw_residuals(axes[0][1], points, fitted)
    runs = list(study)
    return plots.save(fig, "one", folder, runs, {"a": 1}, redraw)


def test_a_redrawn_figure_has_the_same_bytes_and_embeds_its_fonts(root, tmp_path):
    first, second = (drawn(root, tmp_path / name) for name in "ab")
    assert [path.suffix for path in first] == [".pdf", ".svg", ".png", ".json"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    pdf = first[0].read_bytes()
    assert b"/Type3" not in pdf
    assert b"CIDFontType2" in pdf


def test_a_forecast_marks_the_points_it_has_not_seen(best):
    points = load_run(best).curve()
    fitted, scored = forecast("exp_power", points, 0.5)
    with plots.style():
        _, axes = plots.figure()
        plots.draw_forecast(axes[0][0], points, fitted)
    open_points = [line for line in axes[0][0].lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in open_points if line.get_marker() == "o"] == [
        len(scored)
    ]


def test_check_names_what_a_figure_no_longer_follows_from(root, tmp_path, monkeypatch, capsys):
    runs, folder = tmp_path / "runs", tmp_path / "figures"
    shutil.copytree(root, runs)
    paths = drawn(runs, folder)
    arguments = ["check", "--figures", str(folder), "--runs", str(runs)]
    assert main(arguments) == 0
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_version", lambda name: "0.0")
        assert "package changed: matplotlib" in stale(folder, runs)["one"][0]
    with monkeypatch.context() as patch:
        now = provenance.code_hashes("figures")
        patch.setattr(provenance, "code_hashes", lambda start: now | {"fits": "another"})
        assert stale(folder, runs)["one"] == ["code changed: fits"]
    new = made(runs, seed=7)
    assert stale(folder, runs)["one"] == [f"run added: {new.path.name}"]
    drawn(root, tmp_path / "own", redraw="")
    assert stale(tmp_path / "own", runs)["one"] == [], "a figure of one's own names its runs"
    shutil.rmtree(new.path)
    paths[2].write_bytes(b"")
    assert main(arguments) == 1
    assert "one: file changed: one.png" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no figure.*`python -m scaling report RUN"):
        stale(tmp_path / "empty", runs)


def test_a_figure_of_ones_own_goes_into_a_folder_named_by_a_text_and_claims_no_command(tmp_path):
    with plots.style():
        fig, _ = plots.figure()
    paths = plots.save(fig, "mine", str(tmp_path / "new"))
    assert all(path.is_file() for path in paths)
    assert json.loads(paths[-1].read_text())["redraw"] == ""


def test_a_task_that_no_run_holds_is_refused_with_those_that_are(root):
    study = Runs.load(root)
    with pytest.raises(ValueError, match=r"unknown task 'plantd'; did you mean 'planted'\?"):
        study.select("plantd", "best_of_n")
    with pytest.raises(ValueError, match="unknown task 'countdown'; allowed: planted"):
        study.with_baseline("countdown", ["revision"])
    assert FIGURES["search"](study) is None


def test_legends_name_no_line_that_is_not_drawn(root):
    study = Runs.load(root)
    with plots.style():
        coverage, facts, _ = FIGURES["coverage"](study)
        panels, *_ = FIGURES["two_panels"](study)
    assert not facts
    titles = [coverage.legends[0].get_title(), panels.axes[0].get_legend().get_title()]
    assert not [title.get_text() for title in titles if "dashed" in title.get_text()]


def test_the_hash_of_code_ignores_words_and_sees_a_changed_number(tmp_path, monkeypatch):
    package = tmp_path / "scaling"
    package.mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def hashes(text: str) -> dict[str, str]:
        for name, code in {"a": text, "b": "B = 2\n", "c": "C = 3\n"}.items():
            (package / f"{name}.py").write_text(code)
        return provenance.code_hashes("a")

    start = "from scaling.b import B\n\n"
    plain = hashes(start + "def f():\n    return B\n")
    assert set(plain) == {"a", "b"}
    text_written = [
        start + f'\ndef f():\n    """{words}"""\n    return B\n' for words in ("Words.", "More.")
    ]
    assert hashes(text_written[0]) == hashes(text_written[1] + "# why\n")
    assert hashes(start + "# words\ndef f():\n    return  B\n") == plain
    assert hashes(start + "def f():\n    return B + 1\n")["a"] != plain["a"]


# ---------------------------------------------------------------- reports
def test_a_report_agrees_with_its_results_and_runs_and_is_the_same_when_rewritten(
    root, report, tmp_path, capsys
):
    assert differences(report) == []
    Runs.load(root).report(tmp_path)
    for path in report.iterdir():
        if path.suffix != ".json" and path.name != RECORD:  # the command to redraw names the folder
            assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    assert main(["check", "--report", str(report), "--runs", str(root)]) == 0
    assert "report: up to date" in capsys.readouterr().out


def test_every_number_of_a_report_is_bound_and_a_changed_one_is_named(report):
    rows = from_csv((report / "results.csv").read_bytes().decode())
    for file, language, end in (
        ("report.html", HTML, "<h2>References"),
        ("report.tex", LATEX, r"\subsection*{Methods}"),
    ):
        text = (report / file).read_bytes().decode()
        assert list(unbound(text, rows, language)) == []
        shown = language.escape(printed(rows["run.a.first"]))
        right = language.bound.format(id="run.a.first", text=shown)
        wrong = text.replace(right, right.replace("0.", "0.9", 1), 1)
        assert "run.a.first differs from its row of results.csv" in unbound(wrong, rows, language)
        extra = text.replace(end, f"about 0.5 {end}")
        assert any("0.5" in why for why in unbound(extra, rows, language))


def test_a_report_holds_stop_strings_and_lone_carriage_returns(tmp_path):
    made(tmp_path / "runs", chains=4, text="a\rb", stop=("\n", "x")).report(tmp_path / "report")
    rows = from_csv((tmp_path / "report/results.csv").read_bytes().decode())
    assert rows["run.a.stop"]["value"] == "'\\n' 'x'"
    assert rows["run.a.example.wrong"]["value"] == "=41 a\nb"
    assert not differences(tmp_path / "report")


def test_runs_of_one_name_are_distinguished_by_their_hash_and_each_is_taken_once(tmp_path):
    runs = [made(tmp_path, chains=4, seed=seed) for seed in (0, 1)]
    again = replace(runs[0], path=runs[0].path.parent / "." / runs[0].path.name)
    found = entries([*runs, again, made(tmp_path, "revision")])
    ends, name = [run.short_hash for run in runs], "tiny<b>&$/1e9"
    assert [entry.called for entry in found] == [f"{name} · {end}" for end in ends] + [name]
    titles = [ax.get_title() for ax in draw(found)["coverage_and_law"].axes]
    assert all(end in title for end, title in zip(ends, titles, strict=False))
    page = render("report.tex.jinja", results(found), found, {})
    first, second = re.findall(r"On .*?correctly", page)[:2]
    assert ends[0] in first
    assert ends[1] not in first
    assert ends[1] in second


def test_counts_have_their_plural_and_intervals_one_number_of_decimals(tmp_path):
    rows = results(entries([made(tmp_path, chains=1)]))
    assert {key: rows[f"run.a.{key}"]["value"] for key in ("k", "grid", "drawn")} == {
        "k": "1 sample",
        "grid": "1 chain of 1 step",
        "drawn": "12 problems, 12 samples",
    }
    shown = (
        ((0.97, 0.915, 0.99), "0.970 [0.915, 0.990]"), ((-0.5, -1, 1.25), "−0.50 [−1.00, 1.25]"),
        ((0.0092, -0.00462, 0.01), "0.0092 [−0.0046, 0.0100]"), ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((12345.6, 9000.0, 2e4), "12,346 [9,000, 20,000]"), ((1e9, 0.0, 2e9), "1e+09 [0, 2e+09]"),
    )  # fmt: skip
    for given, text in shown:
        assert printed(row("x", *given)) == text


def test_a_method_of_ones_own_and_a_run_without_log_probabilities_are_reported(tmp_path):
    """A method that no table names gave KeyError, and a server's run one of an unknown selector."""
    run = made(tmp_path, "revision", 3, 4)
    own = Entry("run.a", "me", replace(run, plan=replace(run.plan, method="mine")))
    assert own.selectors == ("coverage", "last")
    assert own.coverage.y[-1] > 0
    unknown = np.full_like(run.ledger["logprob"], np.nan)
    without = run.with_arrays(ledger=run.ledger | {"logprob": unknown})
    assert "logprob" not in Entry("run.a", "me", without).selectors


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("human_eval_results.jsonl", ["stores whole texts", "cost in tokens", "no problem is sho"]),
        ("counts.csv", ["votes need the answers of each sample", "cost in tokens, flops, kv_byt"]),
    ],
)
def test_imported_samples_are_reported_and_what_they_lack_is_said(file, says, tmp_path):
    """A report of imported samples was refused; temperature and seed are not those of the tool."""
    path = shutil.copy(ROOT / "tests/data" / file, tmp_path)
    runs = sc.read_counts(path) if file == "counts.csv" else sc.read_samples(path)
    runs.report(tmp_path / "out")
    text = "".join(Strict((tmp_path / "out/report.html").read_text()).words)
    assert all(words in text for words in (*says, "Another tool drew and judged them"))
    assert "temperature" not in text
    assert differences(tmp_path / "out") == []
    Path(path).write_text(Path(path).read_text().replace("false", "true").replace(",2\n", ",3\n"))
    assert any("is not what its run gives" in why for why in differences(tmp_path / "out"))
    Path(path).unlink()
    assert any("its runs are not there" in why for why in differences(tmp_path / "out"))


@pytest.mark.parametrize(("factor", "changed"), [(1 + 1e-8, False), (1 + 1e-4, True)])
def test_results_that_are_not_what_the_runs_give_are_named(report, tmp_path, factor, changed):
    """Fits agree to some nine digits between processors; the sixth is a change."""
    copy = shutil.copytree(report, tmp_path / "report")
    rows = from_csv((report / "results.csv").read_bytes().decode())
    for found in rows.values():
        if found["kind"] == "number":
            found |= {name: found[name] * factor for name in ("value", "low", "high")}
    rows["run.a.k.low"]["value"] += 1  # printed in the texts
    (copy / "results.csv").write_bytes(to_csv(rows).encode())
    found = differences(copy)
    assert "report.html: run.a.k.low differs from its row of results.csv" in found
    others = [why for why in found if why.endswith("not what its run gives")]
    assert "results.csv: run.a.k.low is not what its run gives" in others
    assert (len(others) > 1) is changed


def test_results_survive_their_file_whatever_they_hold():
    rows = {"a": row("a", HOSTILE), "b": row("b", 0.1 + 0.2, 0.25, 0.5, 3), "c": row("c", 10**15)}
    back = from_csv(to_csv(rows))
    assert [printed(found) for found in back.values()] == [printed(r) for r in rows.values()]
    assert back["a"]["value"] == HOSTILE
    assert back["b"]["value"] == 0.1 + 0.2


def test_the_page_runs_nothing_and_asks_no_other_host(report):
    text = (report / "report.html").read_text(encoding="utf-8")
    page = Strict(text)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in "".join(page.words)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "default-src 'none'" in text


def test_open_missing_and_too_many_runs_are_refused_in_one_line(best, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    run = load_run(best)
    many = Runs(replace(run, path=tmp_path / str(i)) for i in range(13))
    for runs, says in ((many, "13 runs: .* 1 to 12"), (Runs([]), "1 to 12"),
                       (replace(run, sha256=""), "still open")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            runs.report(tmp_path / "out")
    assert not (tmp_path / "out").exists()


DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}
\begin{document}\input{report}\bibliographystyle{plain}\bibliography{report}\end{document}
"""


@pytest.mark.slow
def test_the_fragment_compiles_and_cites(report, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex: apt-get install texlive-latex-base texlive-latex-recommended")
    for path in report.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "paper.tex").write_text(DOCUMENT)
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        done = subprocess.run([command, *options, "paper"], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stdout.decode("latin1")[-2000:]
    log = (tmp_path / "paper.log").read_text(encoding="latin1")
    assert "undefined" not in log


def test_tex_leaves_no_sign_that_tex_would_obey():
    safe = tex(HOSTILE)
    plain = re.sub(r"\\(?:textbackslash|text\w+|dots|allowbreak)\{\}|\\[{}$&#_%]|\{.\}", "", safe)
    assert not re.search(r"[\\${}&#^_%~]", plain), plain
    assert safe.isascii()
    assert tex("a · b") == r"a \(\cdot\) b"
