#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench's figures say what was measured: from samples, cells and printed lines made for this, without a laboratory."""
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bench")]

import engineer  # noqa: E402 - found through the path above
from comparison import pictures, table  # noqa: E402
from comparison.place import block_time_s  # noqa: E402


def cell(defence="nothing", attack="flood", succeeded=90, failed=10, **hostile):
    return {"defence": defence, "attack": attack, "title": "a flood",
            "honest": {"succeeded": succeeded, "failed": failed, "lost_datagrams": 3, "blocked": ["203.0.113.9"]},
            "setup_ms": [4.0, 8.0, 12.0, 400.0], "over_time": [[0, 0], [10, 0], [8, 2]],
            "hostile": {"sent": 1000, "reached": 100, "answered": 50, "block_s": 0.5, **hostile}, "cpu": {"server": 0.1, "defence": None}}


class UntilBlocked(unittest.TestCase):
    """Samples are (seconds, sent, reached, answered)."""

    def test_it_is_the_time_from_the_first_datagram_to_the_last_answer(self):
        self.assertEqual(block_time_s([(0.0, 0, 0, 0), (1.0, 10, 10, 10), (1.5, 500, 80, 60), (3.0, 2000, 80, 60)]), 0.5)

    def test_who_is_never_answered_was_blocked_at_once(self):
        self.assertEqual(block_time_s([(1.0, 10, 0, 0), (2.0, 1000, 0, 0)]), 0.0)
        self.assertEqual(block_time_s([(1.0, 1, 1, 0), (2.0, 1, 1, 0)]), 0.0)

    def test_who_is_answered_to_the_end_was_not_blocked(self):
        self.assertIsNone(block_time_s([(1.0, 10, 10, 10), (2.0, 1000, 1000, 700), (3.0, 2000, 2000, 1400)]))

    def test_a_rate_that_is_only_held_down_is_no_block(self):
        self.assertIsNone(block_time_s([(float(s), 100 * s, 5 * s, 5 * s) for s in range(1, 20)]))

    def test_a_few_datagrams_without_answer_at_the_end_prove_nothing(self):
        self.assertIsNone(block_time_s([(1.0, 500, 500, 500), (1.1, 505, 505, 500)]))

    def test_without_an_attack_there_is_none(self):
        self.assertIsNone(block_time_s([(0.0, 0, 0, 0), (9.0, 0, 0, 0)]))


class Tables(unittest.TestCase):
    def test_repeats_become_medians_with_their_spread(self):
        found = table.summaries([cell(succeeded=90, failed=10), cell(succeeded=99, failed=1), cell(succeeded=95, failed=5, block_s=None)])
        self.assertEqual(len(found), 1)
        self.assertEqual((found[0]["success"], found[0]["success_spread"]), (95, [90, 99]))
        self.assertEqual((found[0]["setup_p50_ms"], found[0]["setup_p99_ms"]), (12.0, 400.0))
        self.assertEqual((found[0]["block_s"], found[0]["honest_blocked"]), (0.5, 1))

    def test_blocked_in_half_of_the_repeats_or_fewer_is_never(self):
        self.assertIsNone(table.summaries([cell(block_s=0.1), cell(block_s=None)])[0]["block_s"])

    def test_nearly_all_is_not_shown_as_all(self):
        row = table.row(table.summaries([cell(succeeded=9997, failed=3)])[0])
        self.assertEqual(row[0], "99.97 %")

    def test_too_few_honest_tries_are_refused(self):
        with self.assertRaisesRegex(ValueError, "only 3 honest tries"):
            table.summaries([cell(succeeded=2, failed=1)])

    def test_a_case_tells_what_was_answered_until_it_was_stopped_and_which_honest_tries_failed(self):
        stopped, not_stopped, office = table.summaries([cell(), cell("pike", block_s=None), cell("meter", "office", failed=0, sent=0)])
        self.assertEqual(table.case(stopped), "50; 10 of 100 failed")
        self.assertEqual(table.case(not_stopped), "50, not stopped; 10 of 100 failed")
        self.assertEqual(table.case(office), "none failed")


class Pictures(unittest.TestCase):
    def test_every_defence_and_every_second_is_on_the_picture(self):
        svg = pictures.over_time([cell(), cell("sipward, monitor", succeeded=100, failed=0)]).svg()
        for words in ("nothing", "sipward, monitor", "second 1: 10 succeeded, 0 failed", "second 2: 8 succeeded, 2 failed"):
            self.assertIn(words, svg)

    def test_the_shares_of_a_histogram_are_of_all_tries(self):
        shares, failed = pictures.shares([cell(failed=1)], pictures.bins())
        self.assertAlmostEqual(sum(shares) + failed, 1.0)
        self.assertAlmostEqual(failed, 0.2)


class Engineer(unittest.TestCase):
    PRINTED = ("989 keys in 4096 lines (load 0.24), 0 displaced\n"
               "find, meter                 15.9 ns     15.4 .. 16.1      62.8 million a second\n"
               "  find                   / a line, bare         1.67   (1.51 .. 1.70)   at 10^7: must <= 2.6, aim 2.0\n"
               "  iptables -m string / first look, 10^5 (146.0 ns)   4.7   must >= 9\n")

    def test_figures_and_ratios_are_read_as_the_benches_print_them(self):
        found = engineer.figures(self.PRINTED)
        self.assertEqual(found["figures"], [{"name": "find, meter", "keys": 989, "median_ns": 15.9, "spread_ns": [15.4, 16.1]}])
        self.assertEqual([(r["name"], r["beside"], r["median"], r["spread"]) for r in found["ratios"]],
                         [("find", "a line, bare", 1.67, [1.51, 1.7]), ("iptables -m string", "first look, 10^5 (146.0 ns)", 4.7, None)])


if __name__ == "__main__":
    unittest.main()
