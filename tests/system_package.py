#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed: the Debian package as lintian sees it, the unit, the manual and the completions beside what the program says."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from lab.case import skip

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_EXPOSED = 2.0  # of systemd-analyze: 0 is a closed box, 10 anything goes


def output(*command, **options):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=600, check=True, **options).stdout


class Package(unittest.TestCase):
    program: pathlib.Path

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="sipward-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        output("cpack", "-G", "DEB", "-B", cls.folder / "cpack", cwd=cls.program.parents[1])
        cls.package = next((cls.folder / "cpack").glob("*.deb"))
        cls.tree = cls.folder / "tree"
        output("dpkg-deb", "-x", cls.package, cls.tree)
        cls.described = json.loads(output(cls.program, "describe-commands"))
        cls.commands = [command for command in cls.described["commands"] if command["name"]]

    def page(self, path):
        return output("gzip", "-dc", self.tree / path)

    def test_lintian_finds_no_error(self):
        done = subprocess.run(["lintian", "--no-cfg", "--fail-on", "error", str(self.package)],
                              text=True, capture_output=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_settings_are_conffiles_and_everything_belongs_to_root(self):
        self.assertEqual(output("dpkg-deb", "-I", self.package, "conffiles").split(), ["/etc/logrotate.d/sipward", "/etc/sipward/sipward.yaml"])
        for line in output("dpkg-deb", "-c", self.package).splitlines():
            self.assertRegex(line, r"^[-dl]r[-w][-x]r-[-x]r-[-x] root/root |^lrwxrwxrwx root/root ")

    def test_the_unit_is_closed_and_valid(self):
        unit = next(self.tree.glob("**/sipward.service"))
        exposed = output("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
        level = float(re.search(r"exposure level.*?(\d+\.\d+)", exposed)[1])
        self.assertLessEqual(level, MOST_EXPOSED, exposed)
        text = unit.read_text()
        self.assertIn("ExecStart=/usr/sbin/sipward run --config /etc/sipward/sipward.yaml\n", text)
        (self.folder / "sipward.service").write_text(text.replace("/usr/sbin/sipward", str(self.program)))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(self.folder / "sipward.service")], text=True, capture_output=True, check=False)
        self.assertEqual(done.stderr, "")

    def test_the_unit_verifies_with_the_drop_in_for_inline(self):
        drop_in = self.folder / "sipward.service.d/inline.conf"
        drop_in.parent.mkdir(exist_ok=True)
        shutil.copy(next(self.tree.glob("**/inline.conf")), drop_in)
        (self.folder / "sipward.service").write_text((ROOT / "systemd/sipward.service").read_text().replace("/usr/sbin/sipward", str(self.program)))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(self.folder / "sipward.service")], text=True, capture_output=True, check=False)
        self.assertEqual(done.stderr, "")

    def test_the_manual_has_every_command_and_every_option(self):
        page = self.page("usr/share/man/man8/sipward.8.gz").replace("\\-", "-")
        for command in self.commands:
            if command["group"]:
                continue
            self.assertIn(f".SS \\fBsipward {command['name']}\\fR", page)
            for option in command["options"]:
                for name in option["names"] if "--help" not in option["names"] else ():
                    self.assertIn(f"\\fB{name}\\fR", page)

    def test_the_settings_manual_has_every_key_and_no_other(self):
        page = self.page("usr/share/man/man5/sipward.yaml.5.gz")
        found = re.findall(r"^\.TP\n\\fB([\w.]+)\\fR$", page, re.MULTILINE)
        settings = output(self.program, "check", "--config", self.tree / "etc/sipward/sipward.yaml")
        path, keys = [], []
        for line in settings.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            depth = (len(line) - len(line.lstrip())) // 2
            name, _, value = line.strip().partition(":")
            path = path[:depth] + [name]
            if value.strip() and not value.strip().startswith("#"):
                keys.append(".".join(path))
        self.assertGreater(len(keys), 50)
        self.assertEqual(found, keys)

    def test_man_has_nothing_to_warn_of(self):
        for page in ("man8/sipward.8", "man5/sipward.yaml.5"):
            done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", str(self.tree / f"usr/share/man/{page}.gz")],
                                  text=True, capture_output=True, check=False, env={"MANWIDTH": "100", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertGreater(len(done.stdout.splitlines()), 100)

    def completed(self, *words):
        """What bash would offer for the last word."""
        script = self.tree / "usr/share/bash-completion/completions/sipward"
        line = f'source {script}; COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; _sipward; echo "${{COMPREPLY[*]}}"'
        return set(output("bash", "-c", line).split())

    def test_bash_completes_commands_options_and_choices(self):
        self.assertEqual(self.completed("sipward", ""), {c["name"] for c in self.commands if " " not in c["name"]} | {"--help", "--version"})
        self.assertEqual(self.completed("sipward", "unbl"), {"unblock"})
        self.assertIn("--immune", self.completed("sipward", "unblock", "--"))
        self.assertEqual(self.completed("sipward", "block", "--scope", ""), {"sip", "all"})

    def test_zsh_completion_names_every_command(self):
        text = (self.tree / "usr/share/zsh/vendor-completions/_sipward").read_text()
        self.assertTrue(text.startswith("#compdef sipward\n"))
        for command in self.commands:
            self.assertIn(f'    "{command["name"]}") _arguments ' if not command["group"] else command["name"], text)
        if shutil.which("zsh"):
            output("zsh", "-n", self.tree / "usr/share/zsh/vendor-completions/_sipward")


def main():
    if missing := [tool for tool in ("cpack", "dpkg-deb", "lintian", "systemd-analyze", "man") if not shutil.which(tool)]:
        skip(f"not installed: {', '.join(missing)} (tests/packages names what is needed)")
    Package.program = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
