//! Python packages as a layer: installed by uv for the base's Python and platform, from wheels alone.
//!
//! The layer is kept by what it was asked for; while that stays the same not even uv is run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::Owner;
use crate::config::direct::PythonConfig;
use crate::digest::Digest;
use crate::engine::cache::{LayerCache, Workshop};
use crate::engine::direct::copy::join;
use crate::engine::direct::interpreter::Interpreter;
use crate::engine::direct::tree::{Source, Tree, What, normal_mode};
use crate::engine::direct::uv::{self, Access, Uv};
use crate::engine::direct::{environment, interpreter, scripts};
use crate::error::{Error, Result};
use crate::progress::Task;

/// Raised by every change of what is made from the same inputs.
const RECIPE: u32 = 1;
/// How deep requirements files may name each other: enough for any, and an end for a circle.
const DEPTH: usize = 8;

/// What is to be installed.
#[derive(Debug, Clone)]
pub(super) struct Packages {
    /// The image, for messages.
    pub(super) image: String,
    /// A requirements file, `uv.lock` or `pylock.toml`.
    pub(super) requirements: Option<PathBuf>,
    /// Packages besides those.
    pub(super) more: Vec<String>,
    pub(super) interpreter: Interpreter,
    pub(super) compile: bool,
    /// Every file that says what is wanted, with its digest.
    files: BTreeMap<PathBuf, Digest>,
}

/// Installed packages.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) tree: Tree,
    /// The tree's files are in it, so it stays until the layer is written.
    _folder: Workshop,
}

/// What kind of file lists them; its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Requirements,
    /// uv's own lock file, with its pyproject.toml beside it.
    UvLock,
    /// `pylock.toml`, `pylock.NAME.toml` (PEP 751).
    Pylock,
}

impl Form {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "uv.lock" {
            Form::UvLock
        } else if name.starts_with("pylock.") && name.ends_with(".toml") {
            Form::Pylock
        } else {
            Form::Requirements
        }
    }
}

impl Packages {
    /// Reads what is wanted.
    ///
    /// # Errors
    /// A file that is not there.
    pub(super) fn read(
        image: &str,
        config: &PythonConfig,
        requirements: Option<PathBuf>,
        interpreter: Interpreter,
    ) -> Result<Self> {
        let more = config.packages.iter().map(|package| package.get_ref().trim().to_owned()).collect();
        let mut packages = Packages {
            image: image.to_owned(),
            requirements,
            more,
            interpreter,
            compile: config.compile,
            files: BTreeMap::new(),
        };
        if let Some(path) = packages.requirements.clone() {
            match Form::of(&path) {
                Form::Requirements => packages.read_requirements(&path, DEPTH)?,
                Form::Pylock => {
                    let bytes = packages.read_file(&path)?;
                    if let Some(name) = folder_in_pylock(&bytes) {
                        return Err(packages.refuse_folder(&name, &path));
                    }
                }
                Form::UvLock => {
                    packages.read_file(&path)?;
                    packages.read_file(&path.with_file_name("pyproject.toml"))?;
                }
            }
        }
        Ok(packages)
    }

    /// A package that is a folder of this machine is no wheel, and an editable one would leave a path in the image.
    fn refuse_folder(&self, package: &str, list: &Path) -> Error {
        let list = list.file_name().unwrap_or_default().to_string_lossy();
        Error::config(format!("{list} of image {:?} installs {package} from a folder", self.image)).help(
            "what is yours is copied, not installed: take the line out, and put the folder where Python looks for it, \
             with [[copy]] and PYTHONPATH in [config] env",
        )
    }

    fn read_file(&mut self, path: &Path) -> Result<Vec<u8>> {
        let bytes = fs_err::read(path).map_err(|error| {
            Error::config(format!("what image {:?} needs cannot be read", self.image))
                .because(error)
                .help(format!("check images.{}.python.requirements in imgforge.toml", self.image))
        })?;
        self.files.insert(path.to_owned(), Digest::of(&bytes));
        Ok(bytes)
    }

    /// The file, and the files that its lines name: other lists, constraints, wheels.
    fn read_requirements(&mut self, path: &Path, depth: usize) -> Result<()> {
        let bytes = self.read_file(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line = line.split(" #").next().unwrap_or_default();
            if let Some(folder) = line.strip_prefix("--editable").or_else(|| line.strip_prefix("-e")) {
                return Err(self.refuse_folder(folder.trim_start_matches(['=', ' ', '\t']), path));
            }
            let words: Vec<&str> = line.split([' ', '\t', '=']).filter(|word| !word.is_empty()).collect();
            let (option, named) = match words[..] {
                [option @ ("-r" | "-c" | "--requirement" | "--constraint"), named, ..] => {
                    (Some(option), named)
                }
                [word, ..] if word.starts_with("-r") || word.starts_with("-c") => (Some("-r"), &word[2..]),
                [word, ..] => (None, word),
                [] => continue,
            };
            let file = folder.join(named);
            if !file.is_file() {
                continue;
            }
            match option {
                Some(_) if depth > 0 => self.read_requirements(&file, depth - 1)?,
                Some(_) | None => self.read_file(&file).map(drop)?,
            }
        }
        Ok(())
    }

    /// The digests of the files in an order that does not depend on where they are.
    fn inputs(&self) -> serde_json::Value {
        let mut files: Vec<String> = self.files.values().map(Digest::to_string).collect();
        files.sort();
        let form = self.requirements.as_deref().map(Form::of).map(|form| format!("{form:?}"));
        json!([RECIPE, form, files, self.more])
    }

    /// What the layer is kept by. `place` is the key of the tree that holds only its folder.
    pub(super) fn key(&self, place: Digest) -> Digest {
        let Interpreter { version, path, platform } = &self.interpreter;
        let inputs = json!([self.inputs(), version, path, platform, self.compile, place]);
        Digest::of(inputs.to_string().as_bytes())
    }

    /// What an environment of this machine with the same packages is kept by.
    pub(super) fn environment_key(&self) -> Digest {
        let machine = [std::env::consts::OS, std::env::consts::ARCH];
        Digest::of(json!([self.inputs(), self.minor(), machine]).to_string().as_bytes())
    }

    /// `3.11`
    pub(super) fn minor(&self) -> String {
        interpreter::minor(&self.interpreter.version)
    }

    /// In words: `requirements.txt, gunicorn==27.0.1`.
    pub(super) fn describe(&self) -> String {
        let file = self.requirements.iter().filter_map(|path| path.file_name());
        let file = file.map(|name| name.to_string_lossy().into_owned());
        file.chain(self.more.iter().cloned()).collect::<Vec<_>>().join(", ")
    }

    /// Installs them for the base and gives them as a tree below `to`.
    ///
    /// # Errors
    /// uv's own; a package without a wheel is named.
    pub(super) async fn install(
        &self,
        uv: &Uv,
        access: &Access,
        cache: &LayerCache,
        to: &str,
        task: &Task,
    ) -> Result<Installed> {
        let shop = cache.workshop(&format!("packages-{}", self.image))?;
        let target = shop.path().join("target");
        let mut arguments: Vec<OsString> = ["pip", "install", "--target"].map(Into::into).into();
        arguments.push(target.clone().into());
        arguments.extend(
            ["--python-version", &self.interpreter.version, "--python-platform", &self.interpreter.platform]
                .map(Into::into),
        );
        arguments.extend(self.wanted(uv, access, shop.path()).await?);
        task.detail(format!("uv {}", uv.version));
        let doing = format!("install the packages of image {}", self.image);
        uv.run(&doing, arguments, self.folder(), access).await?;
        if self.compile {
            task.detail("compiling");
            self.compile(uv, access, shop.path(), &target, to).await?;
        }
        let (to, interpreter, compiled) = (to.to_owned(), self.interpreter.path.clone(), self.compile);
        let read = tokio::task::spawn_blocking(move || {
            let tree = tree(&target, &to, &interpreter, compiled)?;
            Ok(Installed { tree, _folder: shop })
        });
        read.await.expect("reading a folder does not panic")
    }

    /// The arguments that name the packages, for `uv pip install`.
    pub(super) async fn wanted(&self, uv: &Uv, access: &Access, scratch: &Path) -> Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> = ["--only-binary", ":all:"].map(Into::into).into();
        if let Some(path) = &self.requirements {
            let list = match Form::of(path) {
                Form::Requirements | Form::Pylock => path.clone(),
                Form::UvLock => {
                    // The project itself is copied, not installed; what only developers need stays out.
                    let export = [
                        "export",
                        "--frozen",
                        "--no-dev",
                        "--no-emit-project",
                        "--no-editable",
                        "--no-header",
                        "--quiet",
                    ];
                    let text = uv.run("read uv.lock", export, self.folder(), access).await?;
                    let list = scratch.join("requirements.txt");
                    fs_err::write(&list, text)?;
                    list
                }
            };
            arguments.extend(["--requirement".into(), list.into()]);
        }
        arguments.extend(self.more.iter().map(Into::into));
        Ok(arguments)
    }

    pub(super) fn folder(&self) -> &Path {
        let folder = self.requirements.as_deref().and_then(Path::parent);
        folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Compiles modules with a Python of the same version. Checked by nothing when they are imported: the layer that holds
    /// them holds their sources, and neither changes.
    async fn compile(&self, uv: &Uv, access: &Access, scratch: &Path, target: &Path, to: &str) -> Result<()> {
        let python = environment::bare(uv, access, &scratch.join("python"), &self.minor()).await?;
        let output = tokio::process::Command::new(python)
            .args(["-I", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"])
            .args([
                "-s".as_ref(),
                target.as_os_str(),
                "-p".as_ref(),
                format!("/{to}").as_ref(),
                target.as_os_str(),
            ])
            .env("PYTHONHASHSEED", "0")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        // Packages carry files that are no valid Python on purpose (templates, tests of parsers): pip passes over them, too.
        tracing::debug!(code = output.status.code(), "compileall ended");
        Ok(())
    }
}

/// The first package of a pylock.toml that is a folder (PEP 751, `packages.directory`).
fn folder_in_pylock(bytes: &[u8]) -> Option<String> {
    let lock: toml::Table = toml::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    let package =
        lock.get("packages")?.as_array()?.iter().find(|package| package.get("directory").is_some())?;
    Some(package.get("name").and_then(toml::Value::as_str).unwrap_or("a package").to_owned())
}

/// What is in the folder that uv filled, normalised.
fn tree(target: &Path, to: &str, interpreter: &str, compiled: bool) -> Result<Tree> {
    let root = Owner::default();
    let mut tree = Tree::default();
    tree.insert(to, What::Directory, root, 0o755);
    let mut changed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut records = Vec::new();
    for entry in walkdir::WalkDir::new(target).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| uv::on_disk(error.into()))?;
        let path = entry.path().strip_prefix(target).unwrap_or(entry.path());
        let Some(name) = path.to_str().map(str::to_owned) else {
            return Err(uv::on_disk(io::Error::other(format!("{} is not UTF-8", path.display()))));
        };
        let cached = name.split('/').any(|part| part == "__pycache__");
        if scripts::is_left_out(&name) && !(compiled && cached) {
            continue;
        }
        let metadata = entry.metadata().map_err(|error| uv::on_disk(error.into()))?;
        let mode = normal_mode(metadata.mode(), metadata.is_dir());
        if metadata.is_dir() {
            tree.insert(join(to, &name), What::Directory, root, mode);
            continue;
        }
        if !metadata.is_file() {
            continue;
        }
        let bytes = fs_err::read(entry.path()).map_err(uv::on_disk)?;
        if name.starts_with("bin/")
            && let Some(script) = scripts::with_interpreter(&bytes, interpreter)
        {
            changed.insert(name, script);
        } else if name.ends_with(".dist-info/RECORD") {
            records.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        } else {
            let source = Source {
                path: entry.path().to_owned(),
                size: bytes.len() as u64,
                inode: metadata.ino(),
                digest: Digest::of(&bytes),
            };
            tree.insert(join(to, &name), What::File(source), root, mode);
        }
    }
    for (name, text) in records {
        let record = scripts::record(&text, |path| changed.get(path).map(Vec::as_slice));
        tree.insert(join(to, &name), What::Bytes(record.into_bytes()), root, 0o644);
    }
    for (name, script) in changed {
        tree.insert(join(to, &name), What::Bytes(script), root, 0o755);
    }
    Ok(tree)
}
