"""What the measurements share: a registry on loopback, a copy of fixtures/page, taking turns, medians and ratios.

The registry keeps what it gets on disk, where each of its writes waits for the disk (fsync), or in memory, where what the tools do
themselves shows. The figures go to target/bench, from which bench/plot.py draws.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMGFORGE = ROOT / "target/release/imgforge"
PEERS = ROOT / "target/peers/root/usr"
BUILDX = PEERS / "libexec/docker/cli-plugins/docker-buildx"
CRANE = PEERS / "bin/crane"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_registry(folder, storage):
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/")
            return process, port
        except OSError:
            time.sleep(0.05)
    raise SystemExit("docker-registry did not start")


def docker_config(folder):
    """A Docker client's folder, with buildx in it."""
    (folder / "cli-plugins").mkdir(parents=True)
    (folder / "cli-plugins/docker-buildx").symlink_to(BUILDX)
    return folder


class Site:
    """A copy of fixtures/page whose registry is the one on loopback."""

    def __init__(self, folder, port):
        self.path = folder / "shop"
        self.repository = f"127.0.0.1:{port}/shop-web"
        shutil.copytree(ROOT / "fixtures/page", self.path, ignore=shutil.ignore_patterns(".imgforge", "secrets"))
        shutil.copytree(ROOT / "fixtures/page/secrets.sample", self.path / "secrets")
        # What `make demo` has made already is not made again.
        (self.path / ".imgforge").mkdir()
        bases = ROOT / "fixtures/page/.imgforge/bases"
        bases.mkdir(parents=True, exist_ok=True)
        (self.path / ".imgforge/bases").symlink_to(bases)
        self.pip_conf = subprocess.check_output([ROOT / "scripts/pip-conf"]).decode()
        text = (self.path / "imgforge.toml").read_text()
        text = text.replace("oci:.imgforge/images", f"127.0.0.1:{port}/shop-{{image}}")
        (self.path / "imgforge.toml").write_text(text)
        self.docker_config = docker_config(folder / "docker")
        self.changes = 0

    def change(self):
        """One source file of the site changes."""
        self.changes += 1
        (self.path / "shop/changed.py").write_text(f"CHANGE = {self.changes} + {time.time_ns()}\n")

    def imgforge(self):
        environment = ["-e", "mirror"] if self.pip_conf else []
        run([IMGFORGE, "-C", self.path, *environment, "push", "--image", "web"], PIP_CONF=self.pip_conf)

    def docker(self):
        tag = f"{self.repository}:docker"
        run(
            ["docker", "--config", self.docker_config, "buildx", "build", "--load", "--provenance=false", "-q",
             "-f", ROOT / "fixtures/page/dockerfiles/web.gunicorn.Dockerfile", "--build-arg", f"BASE={self.base()}",
             "--secret", "id=ca_bundle,src=/etc/ssl/certs/ca-certificates.crt",
             *(["--secret", "id=pip_conf,env=PIP_CONF"] if self.pip_conf else []), "-t", tag, self.path],
            PIP_CONF=self.pip_conf,
        )
        run(["docker", "push", "-q", tag])

    def base(self):
        images = subprocess.check_output(
            ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=imgforge-base/python"]
        )
        return images.decode().split()[0]


def run(command, **variables):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **variables}
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout.decode()}")


def timed(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def installed(tool):
    """A peer, by path or by name, or none with a word about it."""
    if shutil.which(tool):
        return True
    print(f"{pathlib.Path(tool).name} is not installed (bench/peers fetches it): left out")
    return False


def versions():
    def package(name):
        unpacked = sorted((ROOT / "target/peers/packages").glob(f"{name}_*.deb"))
        return f"{name} {unpacked[-1].name.split('_')[1]} (Debian)" if unpacked else "not installed"

    def say(*command):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode().strip().splitlines()[0]
        return "not installed"

    return {
        "imgforge": say(IMGFORGE, "--version"),
        "docker client": say("docker", "version", "--format", "{{.Client.Version}}"),
        "docker daemon": say("docker", "version", "--format", "{{.Server.Version}}"),
        "buildx": say(BUILDX, "version"),
        # Debian's build of crane does not know its own version; oras tells it in other words.
        "crane": package("crane"),
        "oras": package("oras"),
        "skopeo": say("skopeo", "--version"),
        "buildah": say("buildah", "--version"),
        "docker-registry": say("docker-registry", "--version"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


STORAGE = {"disk": None, "memory": "/dev/shm"}


def arguments(doc, **more):
    """Those that every measurement has."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("-n", "--runs", type=int, default=10)
    parser.add_argument("--storage", choices=STORAGE, default="disk", help="where the registry keeps what it gets")
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    return parser.parse_args()


@contextlib.contextmanager
def registry(storage="disk"):
    """A folder to work in and the port of a registry that lives as long."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=STORAGE[storage]) as kept:
        folder = pathlib.Path(folder)
        process, port = start_registry(folder, kept)
        try:
            yield folder, port
        finally:
            process.terminate()
            process.wait()


def in_turns(ours, theirs, runs, prepare=lambda: None, goal=None):
    """Times of both sides, and the ratio of each pair: a drift of the machine's speed meets both."""
    pairs = []
    for _ in range(runs):
        prepare()
        mine = timed(ours)
        prepare()
        pairs.append((mine, timed(theirs)))
    ratios = [mine / other for mine, other in pairs]
    return {
        "ours, s": round(statistics.median(mine for mine, _ in pairs), 4),
        "theirs, s": round(statistics.median(other for _, other in pairs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratio, min and max": [round(min(ratios), 3), round(max(ratios), 3)],
        **({"goal": goal} if goal else {}),
    }


def report(name, results, options):
    """Prints the versions and a table, and keeps both for bench/plot.py."""
    for tool, version in versions().items():
        print(f"{tool}: {version}")
    print(f"\nmedians of {options.runs} pairs, taken in turns; the registry keeps what it gets: {options.storage}\n")
    print("| work | imgforge | the other | ratio | least and most | goal |\n| --- | --- | --- | --- | --- | --- |")
    for work, figures in results.items():
        least, most = figures["ratio, min and max"]
        goal = f"{figures['goal']:g}" if "goal" in figures else "–"
        print(
            f"| {work} | {figures['ours, s']:.3f} s | {figures['theirs, s']:.3f} s | {figures['ratio']:.3f} "
            f"| {least:.3f} – {most:.3f} | {goal} |"
        )
    keep(name, {"kind": "ratios", "runs": options.runs, "storage": options.storage, "works": results})


def keep(name, figures):
    """Writes figures where bench/plot.py finds them."""
    folder = ROOT / "target/bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"versions": versions(), **figures}, indent=1))
