#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics, as Prometheus sees them: its own checks of names and rules, and a real server that scrapes."""
import json
import pathlib
import re
import shutil
import urllib.parse

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, skip
from lab.network import run, wait_until

ADDRESS, SERVER = "127.0.0.1:9560", "127.0.0.1:9090"
SYSTEMD = pathlib.Path(__file__).resolve().parent.parent / "systemd"
SCRAPE = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{SYSTEMD}/alerts.yml]
scrape_configs: [{{job_name: sipward, static_configs: [{{targets: ["{ADDRESS}"]}}]}}]
"""


class Metrics(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward(metrics={"listen": ADDRESS})
        cls.lab.attacks.flood("198.51.100.66", count=3, per_second=50, user_agent=SCANNER)

    def get(self, url):
        """What a web server on the edge answers; "" while there is none."""
        fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end='')"
        return self.lab.run("edge", ["/usr/bin/python3", "-c", fetch, url], check=False).stdout

    def metrics(self):
        return self.get(f"http://{ADDRESS}/metrics")

    def value(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else None

    def test_names_and_units_are_as_prometheus_wants_them(self):
        done = run(["promtool", "check", "metrics"], input=self.metrics(), check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_every_metric_of_the_rules_and_the_dashboard_exists(self):
        known = set(re.findall(r"^# TYPE (\S+)", self.metrics(), re.MULTILINE))
        used = set(re.findall(r"\bsipward_\w+", (SYSTEMD / "alerts.yml").read_text() + (SYSTEMD / "dashboard.json").read_text()))
        self.assertGreater(len(used), 15)
        self.assertEqual({re.sub(r"_bucket$", "", name) for name in used} - known, set())
        self.assertEqual(json.loads((SYSTEMD / "dashboard.json").read_text())["uid"], "sipward")

    def test_the_rules_are_valid(self):
        done = run(["promtool", "check", "rules", str(SYSTEMD / "alerts.yml")], check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_they_say_what_status_says(self):
        self.assertTrue(wait_until(lambda: self.value('sipward_blocks{kind="host",reason="scanner"}') == 1, 5, interval=0.2), self.metrics())
        self.assertEqual(self.value('sipward_decisions_total{event="block",reason="scanner"}'), 1)
        self.assertEqual(self.value("sipward_block_latency_seconds_count"), 1)
        self.assertLess(self.value("sipward_block_latency_seconds_sum"), 1)
        self.assertEqual(self.value("sipward_nft_in_sync"), 1)
        text = self.metrics()
        verdicts = sum(float(count) for count in re.findall(r"^sipward_packets_total\{.*\} (\S+)$", text, re.MULTILINE))
        passed, dropped = (float(re.search(rf"^sipward_{name}_packets_total (\S+)$", text, re.MULTILINE)[1]) for name in ("passed", "dropped"))
        self.assertGreater(verdicts, 0)
        self.assertEqual(verdicts, passed + dropped)

    def test_a_real_prometheus_scrapes_them(self):
        configuration = self.lab.dir / "prometheus.yml"
        configuration.write_text(SCRAPE)
        server = self.lab.spawn("edge", ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={self.lab.dir}/tsdb",
                                         f"--web.listen-address={SERVER}", "--log.level=warn"], "prometheus.log")
        self.addCleanup(self.lab.stop, server)

        def query(expression):
            answer = self.get(f"http://{SERVER}/api/v1/query?query={urllib.parse.quote(expression)}")
            return [float(each["value"][1]) for each in json.loads(answer)["data"]["result"]] if answer else []

        self.assertTrue(wait_until(lambda: query('up{job="sipward"}') == [1], 30, interval=0.5), (self.lab.dir / "prometheus.log").read_text())
        self.assertEqual(query("sipward_nft_in_sync"), [1])
        self.assertEqual(query('count(ALERTS{alertname="SipwardNftOutOfSync"})'), [])

    def test_z_a_port_that_is_taken_costs_only_the_metrics(self):
        taken = self.lab.spawn("edge", ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "9561"], "taken.log")
        self.addCleanup(self.lab.stop, taken)
        self.assertTrue(wait_until(lambda: self.get("http://127.0.0.1:9561/"), 10, interval=0.2))
        self.daemon.stop()
        with Sipward(self.lab, self.program, metrics={"listen": "127.0.0.1:9561"}) as other:
            self.assertIn("metrics.listen: cannot listen on 127.0.0.1:9561", other.output())
            self.assertEqual(other.command("status").returncode, 0)


if __name__ == "__main__":
    if not shutil.which("promtool") or not shutil.which("prometheus"):
        skip("not installed: prometheus (tests/packages names what is needed)")
    main()
