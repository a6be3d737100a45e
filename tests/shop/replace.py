#!/usr/bin/env python3
"""Load over nginx while the web containers are stopped and replaced, one after another, a new one first: what ECS does with a rolling
deployment. wrk reads pages, visitors order. Says how many requests failed, and ends with 1 when one did.

    tests/shop/replace.py http://127.0.0.1:8080 --project shop --folder target/demo/shop
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import crowd
from containers import docker, healthy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site")
    parser.add_argument("--project", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--containers", type=int, default=6, help="how many are replaced")
    options = parser.parse_args()
    shop = Shop(options.site, options.project, options.folder)
    server = docker("exec", shop.web()[0], "sh", "-c", "echo $SERVER")

    shop.scale(2)
    quiet = Wrk(options.site)
    time.sleep(10)
    print(f"{server}, nobody replaced: {quiet.stop().told()}")
    visitors = crowd.Crowd(options.site, readers=0, buyers=2)
    load = Wrk(options.site)
    for _ in range(options.containers):
        time.sleep(3)
        old = shop.web()[0]
        shop.scale(3)
        docker("stop", "--time", "30", old)
        docker("rm", old)
    time.sleep(3)
    load.stop()
    visitors.stop()
    shop.scale(1)
    placed, failed = len(visitors.placed()), sum(sum(one.values()) for one in visitors.failures.values())
    print(f"{server}, {options.containers} containers replaced: {load.told()}; orders: {placed} placed, {failed} failed")
    if not placed:
        print("FAILED  nobody ordered")
    sys.exit(1 if failed or load.failed or not placed else 0)


class Shop:
    """The compose project, by its own files."""

    def __init__(self, site, project, folder):
        self.site, self.project, self.folder = site, project, folder
        lines = (folder / f".imgforge/compose/{project}.env").read_text().splitlines()
        self.images = dict(line.split("=", 1) for line in lines)

    def scale(self, count):
        """So many web containers, all healthy; those that run stay."""
        command = ["docker-compose", "--project-name", self.project, "up", "--detach", "--no-recreate", "--scale", f"web={count}"]
        # The port that it has, or compose would take another for a change.
        port = self.site.rsplit(":", 1)[1]
        environment = {**os.environ, "SITE_PORT": port, **self.images, "COMPOSE_ANSI": "never"}
        subprocess.run(command + ["web"], cwd=self.folder, env=environment, check=True, capture_output=True)
        for container in self.web():
            healthy(container)

    def web(self):
        """The web containers, the oldest first."""
        project = f"label=com.docker.compose.project={self.project}"
        service = "label=com.docker.compose.service=web"
        return docker("ps", "--quiet", "--filter", project, "--filter", service).split()[::-1]


class Wrk:
    """Reads the front page over and over, eight readers at once, until it is stopped."""

    def __init__(self, site):
        command = ["wrk", "--threads", "1", "--connections", "8", "--duration", "600s", "--timeout", "30s", "--latency", site]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.text = self.process.communicate()[0]
        answered = re.search(r"Non-2xx or 3xx responses: (\d+)", self.text)
        sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", self.text)
        self.failed = int(answered.group(1)) if answered else 0
        self.failed += sum(map(int, sockets.groups())) if sockets else 0
        return self

    def told(self):
        requests = re.search(r"(\d+) requests in", self.text).group(1)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", self.text).group(1)
        p99 = re.search(r"99%\s+(\S+)", self.text).group(1)
        return f"{requests} requests, {rate} a second, 99 % within {p99}, {self.failed} failed"


if __name__ == "__main__":
    main()
