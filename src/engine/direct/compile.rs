//! Compiles the modules of a layer that is about to be written, each once: what comes out is kept by source, place and Python.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::blocking;
use super::environment;
use super::tree::{Module, Tree, What};
use super::uv::{Access, Uv};
use crate::digest::{Digest, Hashing};
use crate::engine::cache::LayerCache;
use crate::error::{Error, Result};
use crate::progress::Reporter;

/// Puts what the modules of `tree` compile to into it. `tools` is asked only when one was not compiled before.
///
/// # Errors
/// No Python of that version; a source that changed meanwhile. One that is no valid Python is passed over with a warning.
pub(super) async fn fill(
    image: &str,
    tree: &mut Tree,
    cache: &LayerCache,
    tools: impl AsyncFnOnce() -> Result<(Uv, Access)>,
    progress: &Reporter,
) -> Result<()> {
    let mut missing = Vec::new();
    for (path, module) in tree.modules() {
        match cache.compiled(module.key()) {
            Some(bytes) => tree.set_compiled(&path, Some(bytes).filter(|bytes| !bytes.is_empty())),
            None => missing.push((path, module)),
        }
    }
    let Some((_, first)) = missing.first() else { return Ok(()) };
    let (uv, access) = tools().await?;
    let shop = cache.workshop(&format!("modules-{image}"))?;
    let python = environment::bare(&uv, &access, &shop.path().join("python"), &first.python).await?;
    let (folder, there) = (shop.path().to_owned(), missing.clone());
    let wanted = blocking(move || {
        let sources = there.iter().enumerate();
        sources.map(|(number, (_, module))| source(&folder, number, module)).collect::<Result<Vec<_>>>()
    })
    .await?;
    let invalid = run(&python, shop.path(), &json!(wanted)).await?;
    for (number, (path, module)) in missing.into_iter().enumerate() {
        let compiled = match invalid.contains(&number) {
            true => {
                let (path, version) = (&module.path, &module.python);
                progress
                    .warning(format!("{image}: /{path} is no valid Python {version} and is not compiled"));
                Vec::new()
            }
            false => fs_err::read(result(shop.path(), number))?,
        };
        cache.put_compiled(module.key(), &compiled)?;
        tree.set_compiled(&path, Some(compiled).filter(|bytes| !bytes.is_empty()));
    }
    Ok(())
}

fn result(folder: &Path, number: usize) -> std::path::PathBuf {
    folder.join(format!("{number}.pyc"))
}

/// Writes the source where it can be compiled as it was listed; gives a line for the compiler.
fn source(folder: &Path, number: usize, module: &Module) -> Result<serde_json::Value> {
    let path = folder.join(format!("{number}.py"));
    match &*module.source {
        What::Bytes(bytes) => fs_err::write(&path, bytes)?,
        What::File(source) => {
            let mut text = Vec::new();
            let mut read = Hashing::new(source.open()?.take(source.size));
            read.read_to_end(&mut text).map_err(|error| source.unreadable(error))?;
            let (_, digest, _): (_, Digest, _) = read.finish();
            if digest != source.digest {
                return Err(source.changed());
            }
            fs_err::File::create(&path)?.write_all(&text)?;
        }
        What::Directory | What::Link(_) | What::Compiled(_) => {}
    }
    Ok(json!([path, format!("/{}", module.path), result(folder, number)]))
}

/// Runs the compiler; gives the numbers of those that are no valid Python.
async fn run(python: &Path, folder: &Path, wanted: &serde_json::Value) -> Result<Vec<usize>> {
    let failed = || Error::failed("cannot compile the modules of the site");
    let mut command = Command::new(python);
    // Nothing of this machine: no site-packages, no variables. Not -I, which would take the hash seed away, too: sets of
    // constants are written in its order (Python before 3.11).
    command.args(["-s", "-S", "-B", "-c", include_str!("compile.py")]).current_dir(folder);
    command.env_clear().env("PYTHONHASHSEED", "0").env("PYTHONUTF8", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed().because(error))?;
    let mut input = child.stdin.take().expect("it was piped just now");
    let list = wanted.to_string();
    // It is read to its end before anything is written.
    let written = input.write_all(list.as_bytes()).await;
    drop(input);
    let output = child.wait_with_output().await.map_err(|error| failed().because(error))?;
    if !output.status.success() || written.is_err() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim_end().lines().last().unwrap_or("it ended with no word").to_owned();
        return Err(failed().because(Error::failed(last)).help("take compile = true out of [[copy]]"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect())
}
