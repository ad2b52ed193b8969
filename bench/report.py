#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""One page from the figures in bench/results: report.html, and its pictures as PNG files if Chromium is installed."""
import html
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from comparison import pictures, table
from comparison.host import RESULTS

STYLE = pathlib.Path(__file__).with_name("comparison") / "page.css"
KEYS = ('<span class="key" style="background:var(--good)"></span>succeeded<span class="key" style="background:var(--bad)"></span>failed')


def read(name):
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def figure(picture, caption):
    return f"<figure>{picture.svg()}<figcaption>{caption}</figcaption></figure>"


def tables(found):
    """The operator's table, one for each attack; sipward's rows stand out, and so do honest tries that failed."""
    parts = []
    for attack in dict.fromkeys(s["attack"] for s in found):
        mine = [s for s in found if s["attack"] == attack]
        head = "".join(f"<th>{html.escape(column)}</th>" for column in ("", *table.COLUMNS))
        rows = "".join(tr(s) for s in mine)
        parts.append(f'<div class="scroll"><table><caption>{html.escape(mine[0]["title"])}</caption><tr>{head}</tr>{rows}</table></div>')
    return "".join(parts)


def tr(s):
    cells = table.row(s)
    marked = [s["success"] < 99.0, False, False, False, False, False, False, s["honest_blocked"] > 0]
    words = "".join(f'<td{" class=worst" if bad else ""}>{html.escape(cell)}</td>' for cell, bad in zip(cells, marked))
    return f'<tr{" class=ours" if s["defence"].startswith("sipward") else ""}><td>{html.escape(s["defence"])}</td>{words}</tr>'


def ratios(engineer):
    """What the benches compare, each with its peer in the same run."""
    head = "<tr><th>bench</th><th>this</th><th>beside</th><th>ratio</th><th>least to most</th></tr>"
    rows = []
    for name, bench in engineer["benches"].items():
        for r in bench["ratios"]:
            keys = f", {r['keys']:,} keys" if r["keys"] else ""
            spread = f"{r['spread'][0]:.2f} to {r['spread'][1]:.2f}" if r["spread"] else "–"
            words = (html.escape(name + keys), html.escape(r["name"]), html.escape(r["beside"]), f"{r['median']:.2f}", spread)
            rows.append("<tr>" + "".join(f"<td>{word}</td>" for word in words) + "</tr>")
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def facts(host):
    return (f'<p class="facts">{html.escape(host["cpu"])}, {host["cores"]} cores, load {host["load"]}; Linux {html.escape(host["kernel"])}; '
            f'{html.escape(host["compiler"])}; commit {html.escape(host["commit"])}; {host["time"]}. '
            "Times of a shared machine vary from run to run: trust the differences between the rows.</p>")


def operator(results, parts, drawn):
    cells = results["cells"]
    found = table.summaries(cells)
    repeats = max(s["repeats"] for s in found)
    parts += [f"<h2>Under attack, what do honest phones notice?</h2><p>Ten registrations and four calls a second by honest phones against a Kamailio that "
              f"looks up 2,000 REGISTERs a second at most, beside each attack; medians of {repeats} rounds.</p>", facts(results["host"])]
    drawn["over-time"] = pictures.over_time(cells)
    parts.append(figure(drawn["over-time"], f"Honest tries that ended in each second. {KEYS}"))
    parts.append(tables(found))
    attack = "flood" if any(cell["attack"] == "flood" for cell in cells) else cells[0]["attack"]
    drawn["set-up"] = pictures.histogram(cells, attack)
    title = next(cell["title"] for cell in cells if cell["attack"] == attack)
    parts.append("<h2>How long does it take to register, or to be connected?</h2>"
                 + figure(drawn["set-up"], f"Beside “{html.escape(title)}”. A call rings for 100 ms before it is answered; SIPp's clock ticks "
                          f"every 4 ms. {KEYS}"))


def cases(results, parts):
    lines = [[html.escape(cell.strip()) for cell in line.strip("| ").split(" | ")] for line in table.cases(results).splitlines()]
    rows = "".join("<tr>" + "".join(f"<{'td' if i else 'th'}>{cell}</{'td' if i else 'th'}>" for cell in line) + "</tr>"
                   for i, line in enumerate(lines) if i != 1)
    parts.append("<h2>Case by case</h2><p>How many datagrams of the attacker the server answered until he was stopped, and how many of the honest "
                 f'tries meanwhile failed.</p><div class="scroll"><table>{rows}</table></div>')


def engineer(results, parts, drawn):
    parts += ["<h2>What does a packet cost?</h2>", facts(results["host"])]
    if picture := pictures.against_sources(results):
        drawn["cost"] = picture
        parts.append(figure(picture, "Medians, with the least and the most seen."))
    parts.append(ratios(results))


def draw_png(drawn, style):
    """Each picture as a browser shows it, twice as fine."""
    browser = shutil.which("chromium")
    if not browser:
        return "no PNG files: Chromium is not installed"
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in drawn.items():
            page = pathlib.Path(folder) / f"{name}.html"
            page.write_text(f"<!doctype html><meta charset=utf-8><style>{style} body {{ margin: 16px; }}</style>{picture.svg()}")
            subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=2",
                            f"--user-data-dir={folder}/profile", f"--screenshot={RESULTS / name}.png",
                            f"--window-size={picture.width + 32},{picture.height + 32}", page.as_uri()], check=True, capture_output=True, timeout=120)
    return f"{len(drawn)} PNG files beside it"


def main():
    parts, drawn = ["<h1>sipward beside everything else an operator could choose</h1>"], {}
    found = {name: read(name) for name in ("operator", "cases", "engineer")}
    if not found["operator"] and not found["engineer"]:
        sys.exit("nothing is in bench/results yet: run bench/run")
    if found["operator"]:
        operator(found["operator"], parts, drawn)
    all_cases = [s for name in ("operator", "cases") if found[name] for s in table.summaries(found[name]["cells"])]
    if all_cases:
        cases(all_cases, parts)
    if found["engineer"]:
        engineer(found["engineer"], parts, drawn)
    style = STYLE.read_text()
    page = RESULTS / "report.html"
    page.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>sipward: the bench</title>'
                    f"<style>{style}</style><body>{''.join(parts)}</body></html>\n")
    quick = any(results and results.get("quick") for results in found.values())
    print(f"{page} ({'no PNG files with --quick' if quick else draw_png(drawn, style)})")


if __name__ == "__main__":
    main()
