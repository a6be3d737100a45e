#!/usr/bin/env python3
"""Load over nginx while the web containers are stopped and replaced, one after another, a new one first: what ECS does with a rolling
deployment. wrk reads pages, visitors order. Says how many requests failed.

    make demo; bench/replace.py [--project shop] [--folder target/demo/shop] [--rounds 3]
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/shop"))

import crowd  # noqa: E402
from containers import docker, healthy  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", default="shop")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/demo/shop")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shop = Shop(options.project, options.folder)
    server = docker("exec", shop.web()[0], "sh", "-c", "echo $SERVER")

    shop.scale(2)
    quiet = wrk(shop.url(), 10).wait()
    print(f"{server}, nobody replaced: {quiet.told()}")
    visitors = crowd.Crowd(shop.url(), readers=0, buyers=2)
    seconds = 30 * options.rounds
    load = wrk(shop.url(), seconds)
    replaced = 0
    while load.runs() and replaced < 2 * options.rounds:
        old = shop.web()[0]
        shop.scale(3)
        docker("stop", "--time", "30", old)
        docker("rm", old)
        replaced += 1
    busy = load.wait()
    visitors.stop()
    shop.scale(1)
    placed, failed = len(visitors.placed()), sum(sum(one.values()) for one in visitors.failures.values())
    print(f"{server}, {replaced} containers replaced: {busy.told()}; orders: {placed} placed, {failed} failed")


class Shop:
    """The compose project, by its own files."""

    def __init__(self, project, folder):
        self.project, self.folder = project, folder
        lines = (folder / f".imgforge/compose/{project}.env").read_text().splitlines()
        self.images = dict(line.split("=", 1) for line in lines)

    def scale(self, count):
        """So many web containers, all healthy; those that run stay."""
        command = ["docker-compose", "--project-name", self.project, "up", "--detach", "--no-recreate", "--scale", f"web={count}"]
        environment = {**os.environ, **self.images, "COMPOSE_ANSI": "never"}
        if "SITE_PORT" not in environment:
            environment["SITE_PORT"] = self.url().rsplit(":", 1)[1]
        subprocess.run(command + ["web"], cwd=self.folder, env=environment, check=True, capture_output=True)
        for container in self.web():
            healthy(container)

    def web(self):
        """The web containers, the oldest first."""
        return self.of("web")[::-1]

    def of(self, service):
        """The containers of a service, the newest first."""
        project = f"label=com.docker.compose.project={self.project}"
        service = f"label=com.docker.compose.service={service}"
        return docker("ps", "--quiet", "--filter", project, "--filter", service).split()

    def url(self):
        return "http://" + docker("port", self.of("nginx")[0], "8080/tcp").splitlines()[0]


class wrk:
    """A run of wrk."""

    def __init__(self, url, seconds):
        command = ["wrk", "--threads", "1", "--connections", "8", "--duration", f"{seconds}s", "--timeout", "30s", "--latency", url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def runs(self):
        return self.process.poll() is None

    def wait(self):
        self.text = self.process.communicate()[0]
        return self

    def told(self):
        requests = int(re.search(r"(\d+) requests in", self.text).group(1))
        rate = re.search(r"Requests/sec:\s+([\d.]+)", self.text).group(1)
        p99 = re.search(r"99%\s+(\S+)", self.text).group(1)
        answered = re.search(r"Non-2xx or 3xx responses: (\d+)", self.text)
        sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", self.text)
        failed = int(answered.group(1)) if answered else 0
        broken = sum(map(int, sockets.groups())) if sockets else 0
        return f"{requests} requests, {rate} a second, 99 % within {p99}, {failed + broken} failed"


if __name__ == "__main__":
    main()
