//! The smallest real project: a busybox web server, one secret file, a compose file. Its base is an OCI layout that is made
//! here, so that nothing is pulled and a release takes seconds.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use imgforge::config::Compression;
use imgforge::digest::Digest;
use imgforge::image::{Content, Descriptor, Image, Kind, Layer};
use imgforge::layer::{LayerWriter, packing};

use super::program::Program;

/// A project of its own name, so that tests can run side by side. Dropped, it takes its containers and images with it.
pub struct Tiny {
    dir: tempfile::TempDir,
    /// The project's name.
    pub project: String,
    /// What is in the secret file and nowhere else.
    pub canary: String,
}

impl Tiny {
    /// With `more` at the end of imgforge.toml.
    pub fn new(more: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let project = format!("tiny-{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix("imgforge-tiny-").tempdir().unwrap();
        let canary = format!("canary-{}", Digest::of(project.as_bytes()).short());
        let tiny = Tiny { dir, project, canary };
        let config = format!("project = \"{0}\"\nbuild.args = {{ TINY = \"{0}\" }}\n", tiny.project);
        tiny.write("imgforge.toml", &format!("{config}{}{more}", include_str!("tiny/imgforge.toml")));
        tiny.write("web.Dockerfile", include_str!("tiny/web.Dockerfile"));
        tiny.write("compose.yaml", include_str!("tiny/compose.yaml"));
        tiny.write("www/index.html", "public\n");
        tiny.write(".dockerignore", "bases\n.gitignore\nimgforge.toml\n");
        tiny.write(".gitignore", ".imgforge\nsecrets\nbases\n");
        tiny.write("secrets/server_settings.py", &format!("SECRET_KEY = \"{}\"\n", tiny.canary));
        busybox_layout(&tiny.path().join("bases/busybox"));
        tiny
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file below it.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// imgforge in it.
    pub fn program(&self) -> Program {
        Program::new(self.path())
    }

    /// Puts it under Git, so that releases have ids.
    pub fn commit(&self) {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.com",
                "-c",
                "commit.gpgsign=false",
            ]);
            let done = command.args(arguments).current_dir(self.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "tiny"]);
    }

    /// What docker prints.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let done = Command::new("docker").args(arguments).output().unwrap();
        assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// The ids of the project's containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.project);
        self.docker(&["ps", "-aq", "--filter", &label]).lines().map(str::to_owned).collect()
    }

    /// Fetches a page from the running service.
    pub fn fetch(&self, page: &str) -> String {
        let container = self.containers().first().cloned().expect("the service runs");
        let published = self.docker(&["port", &container, "8000/tcp"]);
        let url = format!("http://{}/{page}", published.lines().next().unwrap());
        let done = Command::new("curl")
            .args(["-fsS", "--retry", "5", "--retry-connrefused", &url])
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let quiet = |arguments: &[&str]| Command::new("docker").args(arguments).output();
        for container in self.containers() {
            let _ = quiet(&["rm", "-f", "-v", &container]);
        }
        let _ = quiet(&["network", "rm", &format!("{}_default", self.project)]);
        let label = format!("label=tiny={}", self.project);
        let images =
            quiet(&["images", "-aq", "--filter", &label]).map(|done| done.stdout).unwrap_or_default();
        for image in String::from_utf8_lossy(&images).lines() {
            let _ = quiet(&["rmi", "-f", image]);
        }
    }
}

/// A root filesystem with busybox and a link for each of its commands that the tests use.
pub fn busybox_tar<W: std::io::Write>(out: W) -> tar::Builder<W> {
    let mut tar = tar::Builder::new(out);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut directory = |name: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty()).unwrap();
    };
    directory("bin");
    directory("tmp");
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed (scripts/setup test)");
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/busybox", &busybox[..]).unwrap();
    for command in [
        "sh", "cat", "echo", "httpd", "ls", "mkdir", "rm", "sleep", "stat", "true", "false", "wget", "id",
        "seq", "chmod", "touch", "hostname",
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{command}"), "busybox").unwrap();
    }
    tar
}

/// An OCI layout with [`busybox_tar`].
pub fn busybox_layout(path: &Path) {
    busybox_layout_in(Compression::Gzip, path);
}

/// The same, its layer compressed so.
pub fn busybox_layout_in(compression: Compression, path: &Path) {
    let tar = busybox_tar(LayerWriter::new(compression, Vec::new()));
    let (blob, digests) = tar.into_inner().unwrap().finish().unwrap();
    let descriptor = Descriptor::new(Kind::oci_layer(compression), digests.digest, digests.size);
    let layer = Layer { descriptor, diff_id: digests.diff_id, content: Content::Memory(blob.clone().into()) };
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digests.diff_id]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "busybox"}],
    });
    let image = Image::new(Kind::Oci, config.as_object().unwrap().clone(), vec![layer]).unwrap();
    let blobs = path.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    put(&blob);
    put(&image.config_bytes());
    put(&image.manifest_bytes());
    let manifest = Descriptor::new(Kind::Oci.manifest(), image.digest(), image.manifest_bytes().len() as u64);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(path.join("index.json"), index.to_string()).unwrap();
    std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Every file below `folder`, with its bytes.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    found.push((path, bytes));
                }
                _ => {}
            }
        }
    }
    found
}

/// Whether `bytes` hold `needle`, as it is or inside gzip or zstd.
pub fn holds(bytes: &[u8], needle: &str) -> bool {
    let mut out = Vec::new();
    if let Ok(mut unpacked) = packing::unpacked(bytes) {
        let _ = unpacked.read_to_end(&mut out);
    }
    [bytes, &out].iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
}
