//! A project whose image is built directly, on a base of one static binary, and what is in the image that came out.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use imgforge::layer::packing;
use serde_json::Value;

use super::program::Program;
use super::tiny::busybox_layout;

/// imgforge.toml, before the tables of the image.
const HEAD: &str = r#"
project = "direct"
[secrets]
store = "dir:secrets"
files = { settings = "settings.py" }
[bases.busybox]
layout = "../busybox"
[images.web]
base = "busybox"
engine = "direct"
"#;

/// A project in a folder of its own.
pub struct Direct {
    dir: tempfile::TempDir,
}

/// An entry of a layer: kind, owner, mode, time, and what is in it or where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: &'static str,
    pub owner: (u64, u64),
    pub mode: u32,
    pub mtime: u64,
    pub content: Vec<u8>,
}

impl Direct {
    /// With these tables after `[images.web]`.
    pub fn new(tables: &str) -> Self {
        let direct = Direct { dir: tempfile::Builder::new().prefix("imgforge-direct-").tempdir().unwrap() };
        busybox_layout(&direct.dir.path().join("busybox"));
        direct.configure(tables);
        direct.write("secrets/settings.py", "SECRET = \"canary\"\n");
        direct
    }

    /// Other tables.
    pub fn configure(&self, tables: &str) {
        self.write("imgforge.toml", &format!("{HEAD}{tables}"));
    }

    /// The same, with other words in imgforge.toml.
    pub fn replace(&self, from: &str, to: &str) {
        let config = std::fs::read_to_string(self.path().join("imgforge.toml")).unwrap();
        assert!(config.contains(from), "{from:?} is not in imgforge.toml");
        self.write("imgforge.toml", &config.replacen(from, to, 1));
    }

    /// The base's folder, an OCI layout.
    pub fn base(&self) -> PathBuf {
        self.dir.path().join("busybox")
    }

    /// The project's folder.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    /// Writes a file below it.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// imgforge in it, where no daemon is.
    pub fn program(&self) -> Program {
        Program::new(self.path()).with("DOCKER_HOST", "unix:///nowhere.sock")
    }

    /// Pushes to a layout; gives the image.
    pub fn push(&self) -> Pushed {
        Pushed::of(&self.path(), &self.program().run(&["push", "--output", "json"]).ok().result())
    }
}

/// An image in the project's layouts.
pub struct Pushed {
    pub digest: String,
    pub config: Value,
    pub layers: Vec<BTreeMap<String, Entry>>,
    /// The layers' digests.
    pub digests: Vec<String>,
    /// Whether it was built and not taken as it was.
    pub built: bool,
}

impl Pushed {
    /// Reads what a `push` has told of.
    pub fn of(project: &Path, result: &Value) -> Self {
        let image = &result["release"]["images"][0];
        let digest = image["digest"].as_str().unwrap().to_owned();
        let blobs = project.join(".imgforge/images/web/blobs/sha256");
        let blob = |digest: &Value| {
            let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
            std::fs::read(blobs.join(hex)).unwrap()
        };
        let manifest: Value = serde_json::from_slice(&blob(&image["digest"])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"]["digest"])).unwrap();
        let listed = manifest["layers"].as_array().unwrap();
        let digests = listed.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect();
        let layers = listed.iter().map(|layer| entries(&blob(&layer["digest"]))).collect();
        Pushed { digest, config, layers, digests, built: image["built"] == true }
    }
}

/// The entries of a layer's blob.
pub fn entries(blob: &[u8]) -> BTreeMap<String, Entry> {
    let mut tar = tar::Archive::new(packing::unpacked(blob).unwrap());
    let mut entries = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut content = Vec::new();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => "directory",
            tar::EntryType::Symlink => {
                content = entry.link_name_bytes().unwrap().into_owned();
                "link"
            }
            tar::EntryType::Regular => {
                entry.read_to_end(&mut content).unwrap();
                "file"
            }
            // Only bases have hard links and devices.
            _ => "other",
        };
        let owner = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        let (mode, mtime) = (header.mode().unwrap_or(0), header.mtime().unwrap_or(0));
        let path = entry.path().unwrap().display().to_string();
        let path = path.trim_start_matches("./").trim_end_matches('/');
        entries.insert(path.to_owned(), Entry { kind, owner, mode, mtime, content });
    }
    entries
}
