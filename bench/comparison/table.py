# SPDX-License-Identifier: GPL-2.0-or-later
"""The cells of a comparison as tables: one row a defence, one table an attack; medians over the repeats, and how far they spread."""
import statistics

COLUMNS = ("honest success", "set-up p50", "p99", "attack through", "until blocked", "server CPU", "defence CPU", "honest blocked")
FEW = 10  # so many honest tries at least for a percentage


def percentile(values, share):
    """The nearest-rank percentile of sorted values; None of nothing."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def success(cell):
    """Of all honest tries, the share that succeeded, in percent."""
    tries = cell["honest"]["succeeded"] + cell["honest"]["failed"]
    if tries < FEW:
        raise ValueError(f"only {tries} honest tries beside {cell['attack']} with {cell['defence']}")
    return 100 * cell["honest"]["succeeded"] / tries


def median(values):
    """Of those that are there; None if most are not."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if 2 * len(there) > len(values) else None


def summary(cells):
    """The repeats of one cell as one: medians, and of the success its spread too."""
    successes = [success(cell) for cell in cells]
    hostile = [cell["hostile"] for cell in cells]
    return {
        "defence": cells[0]["defence"], "attack": cells[0]["attack"], "title": cells[0]["title"], "repeats": len(cells),
        "success": statistics.median(successes), "success_spread": [min(successes), max(successes)],
        "setup_p50_ms": median([percentile(cell["setup_ms"], 0.5) for cell in cells]),
        "setup_p99_ms": median([percentile(cell["setup_ms"], 0.99) for cell in cells]),
        "hostile_sent": median([h["sent"] for h in hostile]), "hostile_reached": median([h["reached"] for h in hostile]),
        "hostile_reached_spread": [min(h["reached"] for h in hostile), max(h["reached"] for h in hostile)],
        "hostile_answered": median([h["answered"] for h in hostile]),
        "block_s": median([h["block_s"] for h in hostile]),
        "server_cpu": median([cell["cpu"]["server"] for cell in cells]), "defence_cpu": median([cell["cpu"]["defence"] for cell in cells]),
        "honest_blocked": max(len(cell["honest"]["blocked"]) for cell in cells),
        "honest_lost": median([cell["honest"]["lost_datagrams"] for cell in cells]),
        "honest_failed": sum(cell["honest"]["failed"] for cell in cells),
        "honest_tries": sum(cell["honest"]["succeeded"] + cell["honest"]["failed"] for cell in cells),
    }


def summaries(cells):
    """One summary for each attack and defence, in the order in which they were first measured."""
    groups = {}
    for cell in cells:
        groups.setdefault((cell["attack"], cell["defence"]), []).append(cell)
    return [summary(group) for group in groups.values()]


def figure(value, unit, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def row(s):
    """The columns of one summary, as text."""
    attacked = bool(s["hostile_sent"])
    digits = 0 if s["success"] == 100 else 2 if s["success"] > 99.9 else 1  # all is only all
    return (figure(s["success"], " %", digits), figure(s["setup_p50_ms"], " ms"), figure(s["setup_p99_ms"], " ms"),
            f"{s['hostile_reached']:,.0f} of {s['hostile_sent']:,.0f}" if attacked else "–",
            ("never" if s["block_s"] is None else f"{s['block_s']:.2f} s") if attacked else "–",
            figure(100 * s["server_cpu"], " %", 1), "in the kernel" if s["defence_cpu"] is None else f"{100 * s['defence_cpu']:.1f} %",
            f"{s['honest_blocked']}")


def markdown(found):
    """All of it, for a README: a table for each attack."""
    lines, attack = [], None
    for s in sorted(found, key=lambda s: [f["attack"] for f in found].index(s["attack"])):
        if s["attack"] != attack:
            attack = s["attack"]
            lines += ["", f"| {s['title']} | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        lines.append(f"| {s['defence']} | " + " | ".join(row(s)) + " |")
    return "\n".join(lines[1:])


def cases(found):
    """One row a case, a column a defence: hostile datagrams that the server answered until they were stopped, and honest tries that failed."""
    defences = list(dict.fromkeys(s["defence"] for s in found))
    lines = ["| case | " + " | ".join(defences) + " |", "|---" * (len(defences) + 1) + "|"]
    for attack in dict.fromkeys(s["attack"] for s in found):
        mine = {s["defence"]: s for s in found if s["attack"] == attack}
        lines.append(f"| {next(iter(mine.values()))['title']} | " + " | ".join(case(mine[d]) if d in mine else "–" for d in defences) + " |")
    return "\n".join(lines)


def case(s):
    failed = f"{s['honest_failed']:,.0f} of {s['honest_tries']:,.0f} failed" if s["honest_failed"] else "none failed"
    if not s["hostile_sent"]:
        return failed
    return f"{s['hostile_answered']:,.0f}{'' if s['block_s'] is not None else ', not stopped'}; {failed}"
