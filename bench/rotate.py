#!/usr/bin/env python3
"""Rotating a secret against `crane append` of the same file, and against `docker build` + `docker push`.

`crane append` puts a layer on top and leaves the old secret below: it does less. Every run has a new secret. The image is that of
fixtures/page in a registry on loopback; of the fifty each is another image. imgforge remembers manifests and configs by digest: it is
measured with what it remembers from the run before, and without ("never seen"). Needs: bench/peers (crane, docker-buildx), docker-registry, a release build.
"""

import io
import json
import shutil
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
        """The image under `tags` tags in each of so many repositories, each with a label of its own."""
        names = []
        for repository in range(repositories):
            for tag in range(tags):
                name = f"127.0.0.1:{self.port}/copies-{repository}:v{tag}"
                run(["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false",
                     f"docker://{self.reference}", f"docker://{name}"])
                run([CRANE, "mutate", "--insecure", name, "-t", name, "--label", f"copy={repository}-{tag}"])
                names.append(name)
        return names

    def new_secret_never_seen(self):
        """Another value, on a machine that knows nothing of the images."""
        self.new_secret()
        self.forget()

    def forget(self):
        shutil.rmtree(self.site.path / ".imgforge/layers/manifests", ignore_errors=True)

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
    options = harness.arguments(__doc__)
    runs, results = options.runs, {}
    with harness.registry(options.storage) as (folder, port):
        site = harness.Site(folder, port)
        images = Images(site, port)
        one = [images.reference]

        def measure(work, names, prepare, goal):
            results[work] = harness.in_turns(
                lambda: images.rotate(names), lambda: images.append(names), runs, prepare, goal
            )

        if harness.installed(CRANE):
            measure("rotate one image : crane append", one, images.new_secret, 0.5)
            measure("rotate one image, never seen : crane append", one, images.new_secret_never_seen, 0.5)
            fifty = images.copies(10, 5)
            work = "rotate 50 images in 10 repositories"
            measure(f"{work} : 50 × crane append", fifty, images.new_secret, 0.1)
            measure(f"{work}, never seen : 50 × crane append", fifty, images.new_secret_never_seen, 0.1)
            # The newest of what was rotated holds the newest secret.
            out = subprocess.run([IMGFORGE, "-C", site.path, "rotate", "--until", "push", "--image",
                                  f"web={images.reference}", "--output", "json"], stdout=subprocess.PIPE, check=True).stdout
            done = [json.loads(line) for line in out.splitlines() if b'"result":"rotate"' in line][0]
            newest = [done["rotate"]["images"][0]["to"]]
            measure("nothing changed : crane append of an unchanged file", newest, lambda: None, 1.0)
            measure("nothing changed, never seen : crane append of an unchanged file", newest, images.forget, 1.0)
        if harness.installed(harness.BUILDX) and options.storage == "disk":
            site.docker()

            def settings():
                images.new_secret()
                site.change()

            results["rotate one image : docker build + push"] = harness.in_turns(
                lambda: images.rotate(one), site.docker, min(runs, 10), settings, 0.01
            )
    harness.report(f"rotate-{options.storage}", results, options)


if __name__ == "__main__":
    main()
