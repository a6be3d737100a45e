#!/usr/bin/env python3
"""Rotating a secret against `crane append` of the same file, and against `docker build` + `docker push`.

`crane append` puts a layer on top and leaves the old secret below: it does less. Every run has a new secret. The image is that of
fixtures/shop in a registry on loopback. Needs: bench/peers (crane, docker-buildx), docker-registry, a release build.
"""

import argparse
import io
import json
import subprocess
import tarfile

import harness
from harness import CRANE, IMGFORGE, run


class Images:
    """The pushed image of a site, and as many copies of it as are wanted."""

    def __init__(self, site, port):
        self.site = site
        self.port = port
        self.number = 0
        out = subprocess.run([IMGFORGE, "-C", site.path, "push", "--image", "web", "--output", "json"],
                             stdout=subprocess.PIPE, check=True).stdout
        result = [json.loads(line) for line in out.splitlines() if b'"result":"release"' in line][0]
        self.reference = result["release"]["images"][0]["reference"]
        self.layer = site.path.parent / "secret.tar.gz"
        self.new_secret()

    def copies(self, repositories, tags):
        """The image under `tags` tags in each of so many repositories."""
        names = []
        for repository in range(repositories):
            for tag in range(tags):
                name = f"127.0.0.1:{self.port}/copies-{repository}:v{tag}"
                run(["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false",
                     f"docker://{self.reference}", f"docker://{name}"])
                names.append(name)
        return names

    def new_secret(self):
        """Another value, in the store and in the layer that crane appends."""
        self.number += 1
        text = f'SECRET_KEY = "bench {self.number}"\nALLOWED_HOSTS = ["*"]\nMOTTO = "{self.number}"\n'
        (self.site.path / "secrets/server_settings.py.shop").write_text(text)
        with tarfile.open(self.layer, "w:gz", compresslevel=3) as tar:
            for path in ["home/docker/code/shop/server_settings.py", "etc/ecs/ecs.config"]:
                entry = tarfile.TarInfo(path)
                data = text.encode()
                entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o400, 1000, 1000
                tar.addfile(entry, io.BytesIO(data))

    def rotate(self, names):
        images = [part for name in names for part in ("--image", f"web={name}")]
        run([IMGFORGE, "-C", self.site.path, "rotate", "--until", "push", *images])

    def append(self, names):
        for name in names:
            run([CRANE, "append", "--insecure", "-f", self.layer, "-b", name, "-t", f"{name.split('@')[0]}-appended"
                 if "@" not in name else f"{name.split('@')[0]}:appended"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", "--runs", type=int, default=10)
    runs = arguments.parse_args().runs
    results = {}
    with harness.registry() as (folder, port):
        site = harness.Site(folder, port)
        images = Images(site, port)
        one = [images.reference]
        if harness.installed(CRANE):
            results["rotate one image : crane append"] = harness.in_turns(
                lambda: images.rotate(one), lambda: images.append(one), runs, images.new_secret
            )
            fifty = images.copies(10, 5)
            results["rotate 50 images in 10 repositories : 50 × crane append"] = harness.in_turns(
                lambda: images.rotate(fifty), lambda: images.append(fifty), runs, images.new_secret
            )
            # The newest of what was rotated holds the newest secret.
            out = subprocess.run([IMGFORGE, "-C", site.path, "rotate", "--until", "push", "--image",
                                  f"web={images.reference}", "--output", "json"], stdout=subprocess.PIPE, check=True).stdout
            done = [json.loads(line) for line in out.splitlines() if b'"result":"rotate"' in line][0]
            newest = [done["rotate"]["images"][0]["to"]]
            results["nothing changed : crane append of an unchanged file"] = harness.in_turns(
                lambda: images.rotate(newest), lambda: images.append(newest), runs
            )
        if harness.installed(harness.BUILDX):
            site.docker()

            def settings():
                images.new_secret()
                site.change()

            results["rotate one image : docker build + push"] = harness.in_turns(
                lambda: images.rotate(one), site.docker, min(runs, 10), settings
            )
    harness.report(results, runs)


if __name__ == "__main__":
    main()
