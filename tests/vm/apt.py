# SPDX-License-Identifier: Apache-2.0
"""Debian packages of any suite, from the mirror that this machine uses, without touching its package state."""
import os
import pathlib
import re
import shutil
import subprocess
import time

from errors import VmError, progress

ETC_APT = pathlib.Path("/etc/apt")
LISTS_FOR = 24 * 3600  # seconds for which downloaded package lists are good


def _deb822(text):
    """(URI, suites, keyring) of a .sources file."""
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
        fields = {}
        for line in lines:
            if line[0].isspace():
                continue  # a key written out in place, not a value that is read here
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        if fields.get("enabled", "yes") == "no" or "deb" not in fields.get("types", "").split():
            continue
        keyring = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            yield uri, fields.get("suites", "").split(), keyring if keyring.startswith("/") else ""


def _one_line(text):
    for line in text.splitlines():
        m = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)", line)
        if m:
            keyring = re.search(r"signed-by=(\S+)", m[1] or "")
            yield m[2], [m[3]], keyring[1] if keyring else ""


def _configured():
    for path in [ETC_APT / "sources.list", *sorted((ETC_APT / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix in (".list", ".sources"):
            text = path.read_text(errors="replace")
            yield from (_deb822 if path.suffix == ".sources" else _one_line)(text)


def mirrors():
    """((main URI, keyring), (security URI, keyring)): where this machine's own packages come from."""
    main = security = None
    for uri, suites, keyring in _configured():
        path = uri.rstrip("/").rpartition("/")[2]
        if path == "debian-security" or any(s.endswith(("-security", "/updates")) for s in suites):
            security = security or (uri, keyring)
        elif path == "debian":
            main = main or (uri, keyring)
    main = (os.environ.get("WS_DEBIAN_MIRROR"), "") if os.environ.get("WS_DEBIAN_MIRROR") else main
    if main is None:
        raise VmError("no Debian mirror among this machine's apt sources: name one in WS_DEBIAN_MIRROR")
    if security is None:
        security = (re.sub(r"/debian/?$", "/debian-security", main[0]), main[1])
    return main, security


class Apt:
    """Lists and downloads of some suites. Its whole state is one directory."""

    def __init__(self, cache, suites, arch="amd64"):
        self.suites = suites
        self.dir = cache / "apt" / "_".join([arch, *suites])
        for sub in ("lists/partial", "archives/partial"):
            (self.dir / sub).mkdir(parents=True, exist_ok=True)
        (self.dir / "status").touch()
        main, security = mirrors()
        with open(self.dir / "sources.list", "w") as f:
            for suite in suites:
                uri, keyring = security if suite.endswith("-security") else main
                f.write(f"deb [{f'signed-by={keyring} ' if keyring else ''}arch={arch}] {uri} {suite} main\n")
        # sid's Release file may be past its date; a mirror that is late is no reason to test nothing.
        (self.dir / "apt.conf").write_text(f"""\
Dir::State::lists "{self.dir}/lists";
Dir::State::status "{self.dir}/status";
Dir::Cache "{self.dir}";
Dir::Cache::archives "{self.dir}/archives";
Dir::Etc::sourcelist "{self.dir}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
""")
        self.env = {**os.environ, "APT_CONFIG": str(self.dir / "apt.conf"), "LC_ALL": "C"}
        self.complaint = ""

    def _run(self, *argv, **kw):
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, **kw)

    def update(self):
        """Package lists, if those here are old. What fails is kept in .complaint: other suites may have it."""
        stamp = self.dir / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_FOR:
            return
        progress(f"  LISTS    {' '.join(self.suites)}")
        no_icons = "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"  # may be asked for by the machine's apt
        r = self._run("apt-get", "-q", "-o", no_icons, "update")
        self.complaint = "\n".join(re.findall(r"^[EW]: .*", r.stderr, re.M))
        if r.returncode == 0 and not self.complaint:
            stamp.touch()

    def names(self, prefix):
        return self._run("apt-cache", "pkgnames", prefix).stdout.split()

    def record(self, package):
        """Fields of a package's newest version."""
        text = self._run("apt-cache", "show", "--no-all-versions", package).stdout
        return dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", text.split("\n\n")[0], re.M))

    def download(self, package, directory):
        """The .deb in `directory`, with a line of progress now and then."""
        record = self.record(package)
        size = int(record.get("Size", 0))
        progress(f"  FETCH    {package} ({size / 1e6:.0f} MB)")
        free = shutil.disk_usage(directory).free
        if free < size:
            raise VmError(f"{package} has {size / 1e6:.0f} MB, {directory} {free / 1e6:.0f} MB free: disk full")
        directory = directory / package
        directory.mkdir()
        with open(directory / "log", "w+") as log:
            p = subprocess.Popen(["apt-get", "-q", "download", package], cwd=directory, env=self.env,
                                 stdout=log, stderr=subprocess.STDOUT)
            try:
                while True:
                    try:
                        p.wait(10)
                        break
                    except subprocess.TimeoutExpired:
                        done = sum(f.stat().st_size for f in directory.glob("*.deb*"))
                        progress(f"           {done / 1e6:.0f} of {size / 1e6:.0f} MB")
            finally:
                if p.poll() is None:
                    p.kill()
                    p.wait()
            log.seek(0)
            debs = list(directory.glob("*.deb"))
            if p.returncode or not debs:
                (self.dir / "updated").unlink(missing_ok=True)  # the lists name what is no more: new ones the next time
                raise VmError(f"{package} cannot be downloaded: {_last_error(log.read())}")
        return debs[0]


def _last_error(text):
    return (re.findall(r"^[EW]: (.*)", text, re.M) or text.strip().splitlines() or ["no message"])[-1]
