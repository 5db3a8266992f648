# SPDX-License-Identifier: Apache-2.0
"""Services: started here, stopped here, by pid (and the group that the pid leads)."""
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

from . import SLOW, net, python


_prctl = ctypes.CDLL(None).prctl
PR_SET_PDEATHSIG = 1


def _end_with_parent():
    """In the child: whoever started it may be killed, as pytest-xdist does with its workers, and clean nothing up."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Service:
    """One process with its log. Leaves nothing behind: children share its session and end with it."""

    def __init__(self, argv, log, port=None, unix=None, env=None, cwd=None, host="127.0.0.1", name=None, wait=True):
        self.argv = [str(a) for a in argv]
        self.name = name or pathlib.Path(self.argv[0]).name
        self.log = pathlib.Path(log)
        self.port, self.unix = port, unix
        full = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "WIRESPAN"))}
        full.update({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"})
        full.update({k: str(v) for k, v in (env or {}).items()})
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as out:
            self.p = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=full,
                                      cwd=cwd, start_new_session=True, preexec_fn=_end_with_parent)
        if not wait:
            return
        try:
            if unix:
                net.wait_path(unix, alive=self.alive)
            elif port:
                net.wait_port(port, host, alive=self.alive)
        except Exception as e:
            self.stop()
            raise RuntimeError(f"{self.name}: {e}\n{self.tail()}") from e

    @property
    def pid(self):
        return self.p.pid

    def alive(self):
        return self.p.poll() is None

    def tail(self, lines=30):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, sig):
        self.p.send_signal(sig)

    def stop(self, grace=5):
        """SIGTERM, then SIGKILL to what is left of the session. Returns the exit status."""
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(grace * SLOW)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait(5)
        try:
            os.killpg(self.p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.p.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


def _interrupt(*_):
    raise KeyboardInterrupt


class Services:
    """Starts services into one directory and stops all of them, last first, on SIGTERM to us as well."""

    def __init__(self, directory):
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.all = []

    def start(self, argv, name, **kw):
        s = Service(argv, self.dir / f"{len(self.all)}-{name}.log", name=name, **kw)
        self.all.append(s)
        return s

    def script(self, path, name=None, **kw):
        return self.start([python(), path], name or pathlib.Path(path).stem, **kw)

    def nginx(self, body, port=None, unix=None, workers=1, host="127.0.0.1", prefix=()):
        """Debian's nginx with its own prefix; `body` goes into http {}."""
        prefix_dir = self.dir / f"nginx{len(self.all)}"
        prefix_dir.mkdir()
        conf = prefix_dir / "nginx.conf"
        conf.write_text(textwrap.dedent(f"""\
            daemon off; master_process on; worker_processes {workers};
            user root;
            pid {prefix_dir}/pid; error_log {prefix_dir}/error.log warn;
            events {{ worker_connections 4096; }}
            http {{
              access_log off; keepalive_requests 100000000; keepalive_timeout 3600s;
              client_body_temp_path {prefix_dir}/b; proxy_temp_path {prefix_dir}/p; fastcgi_temp_path {prefix_dir}/f;
              uwsgi_temp_path {prefix_dir}/u; scgi_temp_path {prefix_dir}/s;
              large_client_header_buffers 4 1m;
              {body}
            }}
            """))
        return self.start([*prefix, "/usr/sbin/nginx", "-p", prefix_dir, "-c", conf, "-e", prefix_dir / "error.log"],
                          "nginx", port=port, unix=unix, host=host)

    def stop(self):
        while self.all:
            self.all.pop().stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            for s in self.all:
                if s.log.exists() and s.log.stat().st_size:
                    print(f"--- {s.name} ({s.pid}), end of its log:\n{s.tail(15)}", file=sys.stderr)
        self.stop()
