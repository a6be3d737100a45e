#!/usr/bin/env python3
"""Pushing a layer of 1 GiB, compressible and not, into an empty registry on loopback: imgforge, crane, skopeo, oras, buildah, docker push.

The image is built and compressed before: what is timed is the push (docker and buildah compress while they push; they have no other way).
Each run has an empty registry. Also prints the peak memory of each side, and imgforge's for a layer of 100 MiB. Needs: bench/peers
and its oras, docker-registry, a release build, 10 GB of disk.
"""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import textwrap
import time

import harness
from harness import CRANE, IMGFORGE, PEERS, run

ORAS = PEERS / "bin/oras"


class Image:
    """An image of one layer of so many bytes, in imgforge's cache, as an OCI layout, and in the daemon."""

    def __init__(self, folder, name, size, compressible):
        self.name, self.path = name, folder / name
        (self.path / "code").mkdir(parents=True)
        noise = random.Random(size)
        words = [word.encode() for word in "import def return self value None class request context model".split()]
        with open(self.path / "code/data", "wb") as out:
            left = size
            while left > 0:
                if compressible and noise.random() < 0.5:
                    block = b" ".join(noise.choices(words, k=10000))
                else:
                    block = noise.randbytes(65536)
                out.write(block[:left])
                left -= len(block)
        base = self.path / "base"
        write_base(base)
        (self.path / "imgforge.toml").write_text(textwrap.dedent(f"""
            project = "{name}"
            [bases.base]
            layout = "base"
            [images.web]
            base = "base"
            engine = "direct"
            context = "code"
            [[images.web.copy]]
            to = "/srv"
            [registry]
            repository = "oci:out"
            [env.bench]
            registry.repository = "${{REGISTRY}}/{{project}}-{{image}}"
        """))
        run([IMGFORGE, "-C", self.path, "push"])
        self.layout = self.path / "out/web"
        run(["skopeo", "copy", "-q", f"oci:{self.layout}", f"docker-daemon:bench-{name}:1"])

    def push(self, tool, port):
        to = f"127.0.0.1:{port}/{self.name}"
        if tool == "imgforge":
            return peak([IMGFORGE, "-C", self.path, "-e", "bench", "push"], REGISTRY=f"127.0.0.1:{port}")
        if tool == "crane":
            return peak([CRANE, "push", "--insecure", self.layout, f"{to}:1"])
        if tool == "skopeo":
            return peak(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.layout}", f"docker://{to}:1"])
        if tool == "oras":
            return peak([ORAS, "cp", "--to-plain-http", "--from-oci-layout", f"{self.layout}:{self.tag()}", f"{to}:1"])
        if tool == "buildah":
            return peak([*self.buildah(), "push", "--tls-verify=false", self.stored, f"docker://{to}:1"])
        run(["docker", "tag", f"bench-{self.name}:1", f"{to}:1"])
        seconds = peak(["docker", "push", "-q", f"{to}:1"])
        run(["docker", "rmi", f"{to}:1"])
        return seconds

    def store(self):
        """Brings it into buildah's own storage: only from there buildah pushes."""
        self.stored = subprocess.check_output([*self.buildah(), "pull", "-q", f"oci:{self.layout}"]).decode().strip()

    def buildah(self):
        storage = self.path / "storage"
        return ["buildah", "--root", storage, "--runroot", storage / "run", "--storage-driver", "vfs"]

    def tag(self):
        index = json.loads((self.layout / "index.json").read_text())
        return index["manifests"][-1]["annotations"]["org.opencontainers.image.ref.name"]


def write_base(path):
    """An OCI layout whose one layer has an empty folder."""
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        folder = tarfile.TarInfo("etc")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
    diff_id = f"sha256:{hashlib.sha256(tar.getvalue()).hexdigest()}"
    oci = "application/vnd.oci.image"
    layer = {"mediaType": f"{oci}.layer.v1.tar+gzip", **put(gzip.compress(tar.getvalue(), mtime=0))}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {"os": "linux", "architecture": machine, "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    config = {"mediaType": f"{oci}.config.v1+json", **put(json.dumps(config).encode())}
    manifest = {"schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": config, "layers": [layer]}
    manifest = {"mediaType": f"{oci}.manifest.v1+json", **put(json.dumps(manifest).encode())}
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def peak(command, **variables):
    """Seconds and peak memory in MiB of one command."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **variables})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status:
        raise SystemExit(f"{command} failed: {process.stderr.read().decode()}")
    return seconds, usage.ru_maxrss / 1024


def main():
    options = harness.arguments(__doc__, size={"type": int, "default": 1024, "help": "MiB"})
    works = {}
    tools = [tool for tool, path in [("imgforge", IMGFORGE), ("crane", CRANE), ("oras", ORAS)] if harness.installed(path)]
    tools += [tool for tool in ["skopeo", "buildah", "docker"] if harness.installed(tool)]
    lines = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        folder = pathlib.Path(folder)
        for kind, compressible in [("half compressible", True), ("not compressible", False)]:
            image = Image(folder, f"bench-{'half' if compressible else 'noise'}", options.size << 20, compressible)
            if "buildah" in tools:
                image.store()
            measured = {tool: [] for tool in tools}
            for _ in range(options.runs):
                for tool in tools:
                    with harness.registry(options.storage) as (_, port):
                        measured[tool].append(image.push(tool, port))
            ours = [seconds for seconds, _ in measured["imgforge"]]
            for tool in tools:
                seconds = statistics.median(seconds for seconds, _ in measured[tool])
                memory = max(memory for _, memory in measured[tool])
                ratio = statistics.median(a / b for a, (b, _) in zip(ours, measured[tool]))
                works.setdefault(f"{options.size} MiB, {kind}", {})[tool] = [round(seconds, 3), round(memory, 1)]
                lines.append(f"| {options.size} MiB, {kind} | {tool} | {seconds:.2f} s | {memory:.0f} MiB | {ratio:.2f} |")
            run(["docker", "rmi", f"bench-{image.name}:1"])
            shutil.rmtree(image.path)
        small = Image(folder, "bench-small", 100 << 20, True)
        with harness.registry(options.storage) as (_, port):
            _, memory = small.push("imgforge", port)
        run(["docker", "rmi", f"bench-{small.name}:1"])
        lines.append(f"| 100 MiB, half compressible | imgforge | – | {memory:.0f} MiB | – |")
    for name, version in harness.versions().items():
        print(f"{name}: {version}")
    print(f"\nmedians of {options.runs} runs, taken in turns, each into an empty registry\n")
    print("| layer | tool | time | peak memory | imgforge ÷ it |\n| --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    harness.keep("push", {"kind": "push", "runs": options.runs, "storage": options.storage, "works": works})


if __name__ == "__main__":
    main()
