# SPDX-License-Identifier: GPL-2.0-or-later
"""The report's pictures, as SVG text; colours are CSS variables of the page."""
import html
import math

WAIT_MS = 4000  # where a phone has given up


class Picture:
    """An SVG that grows by what is drawn on it."""

    def __init__(self, width, height, title):
        self.width, self.height, self.title = width, height, title
        self.parts = []

    def add(self, name, content="", **attributes):
        words = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items())
        self.parts.append(f"<{name}{words}>{content}</{name}>")

    def text(self, x, y, words, kind="label", anchor="start"):
        self.add("text", html.escape(words), x=round(x, 1), y=round(y, 1), class_=kind, text_anchor=anchor)

    def line(self, x1, y1, x2, y2, kind="grid"):
        self.add("line", x1=round(x1, 1), y1=round(y1, 1), x2=round(x2, 1), y2=round(y2, 1), class_=kind)

    def bar(self, x, y, width, height, kind, hint):
        if height > 0:
            self.add("rect", f"<title>{html.escape(hint)}</title>", x=round(x, 1), y=round(y, 1), width=round(width, 1), height=round(height, 1), class_=kind)

    def path(self, points, kind):
        self.add("path", d="M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)

    def dot(self, x, y, kind, hint):
        self.add("circle", f"<title>{html.escape(hint)}</title>", cx=round(x, 1), cy=round(y, 1), r=4, class_=kind)

    def svg(self):
        return (f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" role="img" aria-label="{html.escape(self.title)}" '
                f'xmlns="http://www.w3.org/2000/svg">{"".join(self.parts)}</svg>')


def distinct(cells, key):
    return list(dict.fromkeys(cell[key] for cell in cells))


# ---- honest success over time

def per_second(cells):
    """(succeeded, failed) of each second, the mean of the repeats."""
    length = max(len(cell["over_time"]) for cell in cells)
    sums = [[0, 0] for _ in range(length)]
    for cell in cells:
        for second, (succeeded, failed) in enumerate(cell["over_time"]):
            sums[second][0] += succeeded / len(cells)
            sums[second][1] += failed / len(cells)
    return sums[1:]  # SIPp's first line is from before its first try


def over_time(cells):
    """A row an attack, a column a defence: what became of the honest tries that ended in each second."""
    attacks, defences = distinct(cells, "attack"), distinct(cells, "defence")
    left, top, wide, high, gap = 184, 46, 120, 64, 14
    picture = Picture(left + len(defences) * (wide + gap), top + len(attacks) * (high + 2 * gap) + 24, "Honest tries over time")
    for column, defence in enumerate(defences):
        for i, words in enumerate(wrapped(defence, 17)):
            picture.text(left + column * (wide + gap), 14 + 14 * i, words, "head")
    for row, attack in enumerate(attacks):
        y = top + row * (high + 2 * gap)
        mine = {d: [c for c in cells if (c["attack"], c["defence"]) == (attack, d)] for d in defences}
        most = max(sum(second) for group in mine.values() if group for second in per_second(group))
        title = next(c["title"] for c in cells if c["attack"] == attack)
        for i, words in enumerate(wrapped(title, 18)):
            picture.text(0, y + 14 + 15 * i, words, "head")
        picture.text(left - 8, y + 8, f"{most:.0f}/s", "tick", "end")
        picture.text(left - 8, y + high, "0", "tick", "end")
        for column, defence in enumerate(defences):
            if mine[defence]:
                seconds_of(picture, per_second(mine[defence]), (left + column * (wide + gap), y, wide, high), most, f"{defence}, {title}")
    foot = top + len(attacks) * (high + 2 * gap) + 4
    for column in range(len(defences)):
        picture.text(left + column * (wide + gap), foot, "seconds →", "tick")
    return picture


def seconds_of(picture, seconds, box, most, what):
    """One small chart: a bar a second, what failed on top of what succeeded."""
    x, y, wide, high = box
    step = wide / len(seconds)
    picture.line(x, y + high, x + wide, y + high, "axis")
    for i, (succeeded, failed) in enumerate(seconds):
        good, bad = high * succeeded / most, high * failed / most
        hint = f"{what}, second {i + 1}: {succeeded:.0f} succeeded, {failed:.0f} failed"
        picture.bar(x + i * step, y + high - good, step - 2, good, "good", hint)
        picture.bar(x + i * step, y + high - good - bad - (1 if good else 0), step - 2, bad, "bad", hint)


def wrapped(words, length):
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


# ---- how long it takes to register or to be connected

def bins():
    """Borders in milliseconds, two to an octave, up to where a phone has given up."""
    borders, at = [], 4.0
    while at < WAIT_MS:
        borders.append(at)
        at *= math.sqrt(2)
    return [0.0, *borders]


def shares(cells, borders):
    """Of all honest tries the share that fell into each bin, and the share that failed."""
    times = [ms for cell in cells for ms in cell["setup_ms"]]
    failed = sum(cell["honest"]["failed"] for cell in cells)
    total = len(times) + failed
    return [sum(low <= ms < high for ms in times) / total for low, high in zip(borders, borders[1:] + [math.inf])], failed / total


def histogram(cells, attack):
    """A row a defence: of all honest tries beside one attack, the share that took so long; the last bar are those that failed."""
    mine = [cell for cell in cells if cell["attack"] == attack]
    defences, borders = distinct(mine, "defence"), bins()
    left, top, high, gap, step = 190, 24, 52, 18, 26
    wide = step * (len(borders) + 2)
    picture = Picture(left + wide + 20, top + len(defences) * (high + gap) + 34, "Set-up times")
    found = {defence: shares([cell for cell in mine if cell["defence"] == defence], borders) for defence in defences}
    scale = math.ceil(10 * max(max([*took, failed]) for took, failed in found.values())) / 10
    for row, (defence, (took, failed)) in enumerate(found.items()):
        y = top + row * (high + gap)
        picture.text(0, y + high - 4, defence, "head")
        picture.line(left, y + high, left + wide, y + high, "axis")
        picture.text(left - 6, y + 8, f"{100 * scale:.0f} %", "tick", "end")
        for i, share in enumerate(took):
            tall = high * share / scale
            picture.bar(left + i * step, y + high - tall, step - 2, tall, "good", f"{defence}: {100 * share:.1f} % from {borders[i]:.0f} ms")
        tall = high * failed / scale
        picture.bar(left + wide - step, y + high - tall, step - 2, tall, "bad", f"{defence}: {100 * failed:.1f} % failed")
        picture.text(left + wide - step / 2, y + high - tall - 3, f"{100 * failed:.0f} %" if failed else "0", "tick", "middle")
    foot = top + len(defences) * (high + gap)
    for i in range(1, len(borders), 2):
        picture.text(left + i * step, foot, f"{borders[i]:,.0f}", "tick", "middle")
    picture.text(left, foot + 20, "milliseconds (logarithmic)", "tick")
    picture.text(left + wide - step / 2, foot, "failed", "tick", "middle")
    return picture


# ---- what a packet costs, against how many sources there are

def by_sources(engineer):
    """Name -> [(sources, ns, least, most)], of what was measured with several numbers of sources."""
    series = {}
    for bench in engineer["benches"].values():
        for f in bench["figures"]:
            name, _, exponent = f["name"].partition(", 10^")
            keys = 10 ** int(exponent) if exponent.isdigit() else f["keys"]
            if keys:
                series.setdefault(name, []).append((keys, f["median_ns"], *f["spread_ns"]))
    return {name: sorted(points) for name, points in series.items() if len(points) > 2}


NAMES = {"first look": "a flood's packet, received and judged", "blocked": "a blocked source's packet, dropped",
         "find, touch, meter": "source table: find, touch, meter", "rte_hash and a line": "DPDK's rte_hash and a line"}


def against_sources(engineer):
    """Nanoseconds a packet against the number of sources; None if it was not measured with several."""
    series = {name: by_sources(engineer).get(name) for name in NAMES}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    left, top, wide, high = 60, 20, 560, 300
    picture = Picture(left + wide + 300, top + high + 50, "Cost of a packet against the number of sources")
    most = max(p[3] for points in series.values() for p in points)
    unit = 10 ** math.floor(math.log10(most))
    unit = unit / 2 if most / unit < 4 else unit
    exponents = sorted({round(math.log10(p[0])) for points in series.values() for p in points})
    scale = math.ceil(most / unit) * unit

    def at(keys, ns):
        return left + wide * (math.log10(keys) - exponents[0]) / max(1, exponents[-1] - exponents[0]), top + high * (1 - ns / scale)

    for i in range(int(scale / unit) + 1):
        y = top + high * (1 - i * unit / scale)
        picture.line(left, y, left + wide, y)
        picture.text(left - 8, y + 4, f"{i * unit:,.0f} ns", "tick", "end")
    for exponent in exponents:
        picture.text(at(10 ** exponent, 0)[0], top + high + 18, f"{10 ** exponent:,}", "tick", "middle")
    picture.text(left + wide / 2, top + high + 40, "sources (logarithmic)", "tick", "middle")
    names_at = []
    for number, (name, points) in enumerate(series.items()):
        picture.path([at(p[0], p[1]) for p in points], f"line s{number}")
        for keys, ns, least, greatest in points:
            x, _ = at(keys, ns)
            picture.line(x, at(keys, least)[1], x, at(keys, greatest)[1], f"whisker s{number}")
            picture.dot(*at(keys, ns), f"s{number}", f"{NAMES[name]}, {keys:,} sources: {ns} ns ({least} to {greatest})")
        names_at.append((at(*points[-1][:2])[1], number, name))
    lowest = -math.inf
    for y, number, name in sorted(names_at):
        lowest = max(y + 4, lowest + 16)
        picture.text(left + wide + 12, lowest, f"{NAMES[name]}", f"label s{number}")
    return picture
