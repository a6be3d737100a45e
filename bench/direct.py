#!/usr/bin/env python3
"""Building without a daemon, against `tar` + `crane append`, and against `docker build` + `docker push`.

A site of so many small files, of which one changes in every run; its base is in a registry on loopback, where the image goes, too.
`crane append` gets a tar of the whole site (it has no cache) and compresses it; imgforge declares copy, user and command as well.
Needs: bench/peers (crane, docker-buildx), docker-registry, a release build, and the demo's bases (make demo).
"""

import os
import random
import re
import shutil
import textwrap
import time

import harness
from harness import CRANE, IMGFORGE, ROOT, run


class Sources:
    """A folder of `count` files, some kilobytes each, in folders of a hundred."""

    def __init__(self, folder, port, count):
        self.path = folder / f"site-{count}"
        self.image = f"127.0.0.1:{port}/bench-{count}-web"
        self.base = f"127.0.0.1:{port}/base:1"
        self.tar = folder / f"site-{count}.tar"
        words = random.Random(1)
        for number in range(count):
            file = self.path / f"code/app{number // 100}/module{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"VALUE_{n} = {words.random()}  # {words.choice('abcdefgh') * 20}\n" for n in range(55)]
            file.write_text("".join(lines))
        (self.path / "imgforge.toml").write_text(textwrap.dedent(f"""
            project = "bench-{count}"
            [bases.base]
            image = "{self.base}"
            [images.web]
            base = "base"
            engine = "direct"
            context = "code"
            [[images.web.copy]]
            to = "/home/docker/code"
            [images.web.config]
            workdir = "/home/docker/code"
            cmd = ["python3", "-m", "http.server"]
            [registry]
            repository = "127.0.0.1:{port}/{{project}}-{{image}}"
        """))
        (self.path / "code/Dockerfile").write_text(
            "ARG BASE\nFROM ${BASE}\nWORKDIR /home/docker/code\nCOPY . .\nCMD [\"python3\", \"-m\", \"http.server\"]\n"
        )
        self.docker_config = harness.docker_config(folder / f"docker-{count}")
        # A file that was written in this very second is read again until it is older: such a tree is not what is measured.
        time.sleep(2)

    def change(self):
        (self.path / "code/app0/module7.py").write_text(f"CHANGED = {time.time_ns()}\n")

    def imgforge(self):
        run([IMGFORGE, "-C", self.path, "push"])

    def crane(self):
        run(["tar", "-cf", self.tar, "--owner=0", "--group=0", "--transform", "s,^\\.,home/docker/code,", "-C",
             self.path / "code", "."])
        run([CRANE, "append", "--insecure", "-f", self.tar, "-b", self.base, "-t", f"{self.image}:crane"])


    def docker(self):
        run(["docker", "--config", self.docker_config, "buildx", "build", "--load", "--provenance=false", "-q",
             "--build-arg", f"BASE={self.base}", "-t", f"{self.image}:docker", self.path / "code"])
        run(["docker", "push", "-q", f"{self.image}:docker"])


def push_base(port):
    """The demo's Python base."""
    bases = sorted((ROOT / "fixtures/page/.imgforge/bases").glob("*/index.json"), key=lambda path: path.stat().st_mtime)
    if not bases:
        raise SystemExit("there is no base: run make demo first")
    sizes = {path.parent: sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file()) for path in bases}
    largest = max(sizes, key=sizes.get)
    run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{largest}", f"docker://127.0.0.1:{port}/base:1"])


class Shop:
    """fixtures/page, built directly; by Docker as in harness.Site."""

    def __init__(self, folder, port):
        self.docker_site = harness.Site(folder, port)
        self.repositories = 0
        self.path = folder / "direct"
        shutil.copytree(ROOT / "fixtures/page", self.path, ignore=shutil.ignore_patterns(".imgforge", "secrets"))
        shutil.copytree(ROOT / "fixtures/page/secrets.sample", self.path / "secrets")
        text = textwrap.dedent(f"""
            project = "shop"
            [secrets]
            store = "dir:secrets"
            files = {{ server_settings = "server_settings.py.shop" }}
            [build.secrets]
            ca_bundle = "/etc/ssl/certs/ca-certificates.crt"
            [bases.python]
            image = "127.0.0.1:{port}/base:1"
            [registry]
            repository = "127.0.0.1:{port}/direct-{{image}}"
            [images.web]
            base = "python"
            engine = "direct"
            bake = [{{ secret = "server_settings", path = "/home/docker/code/shop/server_settings.py", owner = "1000:1000" }}]
        """)
        (self.path / "imgforge.toml").write_text(text + (ROOT / "tests/imgforge/support/site/web.toml").read_text())

    def forget(self):
        """Nothing is cached but what uv and pip have downloaded.

        For Docker by a change in the first file that is copied: with --no-cache and `prune` BuildKit of Docker 20.10 can panic or hang.
        """
        shutil.rmtree(self.path / ".imgforge", ignore_errors=True)
        # What is built is what was built before, to the byte: in a new repository all of it has to be sent all the same.
        self.repositories += 1
        config = self.path / "imgforge.toml"
        config.write_text(re.sub("/direct-.*{image}", f"/direct-{self.repositories}-{{image}}", config.read_text()))
        requirements = self.docker_site.path / "requirements.txt"
        requirements.write_text(requirements.read_text() + f"# {time.time_ns()}\n")

    def imgforge(self):
        path = f"{ROOT / 'target/tools/bin'}:{os.environ['PATH']}"
        run([IMGFORGE, "-C", self.path, "push"], PATH=path)

    def docker(self):
        self.docker_site.docker()


def main():
    options = harness.arguments(__doc__)
    runs = options.runs
    if not harness.installed(CRANE):
        return
    results = {}
    with harness.registry(options.storage) as (folder, port):
        push_base(port)
        for count, goal in [(300, 1.0), (20000, 0.333)]:
            site = Sources(folder, port, count)
            site.imgforge()
            site.crane()
            name = f"one of {count:,} files changed : tar + crane append"
            results[name] = harness.in_turns(site.imgforge, site.crane, runs, site.change, goal=goal)
            if count == 300 and harness.installed(harness.BUILDX):
                site.docker()
                name = f"one of {count:,} files changed : docker build + push"
                results[name] = harness.in_turns(site.imgforge, site.docker, runs, site.change, goal=0.01)
            name = f"nothing of {count:,} files changed : crane append of the unchanged tar"
            append = lambda: run([CRANE, "append", "--insecure", "-f", site.tar, "-b", site.base, "-t", f"{site.image}:crane"])
            results[name] = harness.in_turns(site.imgforge, append, runs, goal=1.0)
        if harness.installed(harness.BUILDX):
            shop = Shop(folder, port)
            shop.docker_site.imgforge()
            shop.imgforge()
            name = "the shop, nothing cached but downloads : docker build + push"
            results[name] = harness.in_turns(shop.imgforge, shop.docker, min(runs, 3), shop.forget, goal=0.1)
    harness.report(f"direct-{options.storage}", results, options)


if __name__ == "__main__":
    main()
