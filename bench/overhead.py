#!/usr/bin/env python3
"""What imgforge adds to `docker build` + `docker push` of the same Dockerfile.

Both sides build fixtures/shop's web image on the same daemon and send it to the same registry on loopback; imgforge
also pins the secrets, bakes them and pushes the baked image. The sides take turns, so that a drift of the machine's speed
meets both. Prints medians and the ratio. Needs: bench/peers (docker-buildx), docker-registry, a release build of imgforge.
"""

import argparse
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
BUILDX = ROOT / "target/peers/root/usr/libexec/docker/cli-plugins/docker-buildx"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_registry(folder):
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
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


class Site:
    """A copy of fixtures/shop whose registry is the one on loopback."""

    def __init__(self, folder, port):
        self.path = folder / "shop"
        self.repository = f"127.0.0.1:{port}/shop-web"
        shutil.copytree(ROOT / "fixtures/shop", self.path, ignore=shutil.ignore_patterns(".imgforge", "secrets"))
        shutil.copytree(ROOT / "fixtures/shop/secrets.sample", self.path / "secrets")
        # What `make demo` has made already is not made again.
        (self.path / ".imgforge").mkdir()
        bases = ROOT / "fixtures/shop/.imgforge/bases"
        bases.mkdir(parents=True, exist_ok=True)
        (self.path / ".imgforge/bases").symlink_to(bases)
        self.pip_conf = subprocess.check_output([ROOT / "scripts/pip-conf"]).decode()
        text = (self.path / "imgforge.toml").read_text()
        text = text.replace("oci:.imgforge/images", f"127.0.0.1:{port}/shop-{{image}}")
        (self.path / "imgforge.toml").write_text(text)
        self.docker_config = folder / "docker"
        (self.docker_config / "cli-plugins").mkdir(parents=True)
        (self.docker_config / "cli-plugins/docker-buildx").symlink_to(BUILDX)
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
             "-f", ROOT / "dockerfiles/web.gunicorn.Dockerfile", "--build-arg", f"BASE={self.base()}",
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


def versions():
    say = lambda *command: subprocess.check_output(command).decode().strip().splitlines()[0]
    return {
        "imgforge": say(IMGFORGE, "--version"),
        "docker client": say("docker", "version", "--format", "{{.Client.Version}}"),
        "docker daemon": say("docker", "version", "--format", "{{.Server.Version}}"),
        "buildx": say(BUILDX, "version"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", "--runs", type=int, default=10)
    arguments.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    arguments = arguments.parse_args()
    if not BUILDX.exists():
        raise SystemExit("docker-buildx is missing: run bench/peers first")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        registry, port = start_registry(folder)
        try:
            site = Site(folder, port)
            for name, prepare in [("one source file changed", site.change), ("nothing changed", lambda: None)]:
                # Both have built what is there: what is timed is what `prepare` changes.
                site.imgforge()
                site.docker()
                ours, theirs = [], []
                for _ in range(arguments.runs):
                    prepare()
                    ours.append(timed(site.imgforge))
                    prepare()
                    theirs.append(timed(site.docker))
                ratios = [a / b for a, b in zip(ours, theirs)]
                results[name] = {
                    "imgforge push, s": round(statistics.median(ours), 3),
                    "docker build + push, s": round(statistics.median(theirs), 3),
                    "ratio": round(statistics.median(ratios), 3),
                    "ratio, min and max": [round(min(ratios), 3), round(max(ratios), 3)],
                }
        finally:
            registry.terminate()
            registry.wait()
    for name, version in versions().items():
        print(f"{name}: {version}")
    print(f"\nmedians of {arguments.runs} pairs, taken in turns")
    for name, figures in results.items():
        print(f"\n{name}")
        for what, figure in figures.items():
            print(f"  {what:26} {figure}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
