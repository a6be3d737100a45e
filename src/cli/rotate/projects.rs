//! The projects below a folder, for `rotate --all`.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How deep projects are looked for.
const DEPTH: usize = 4;
/// Folders that hold other people's files.
const SKIPPED: [&str; 3] = ["node_modules", "target", "venv"];

/// The folders at and below `root` that have an imgforge.toml, sorted. A project's own folders are not looked into, and
/// neither are hidden ones or links.
///
/// # Errors
/// A folder that cannot be read; there are none.
pub fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        if folder.join("imgforge.toml").is_file() {
            found.push(folder);
            continue;
        }
        if depth == DEPTH {
            continue;
        }
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let skipped = name.starts_with('.') || SKIPPED.contains(&&*name);
            if !skipped && entry.file_type()?.is_dir() {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::config(format!("there is no imgforge.toml in {} or below", root.display()))
            .help("say where to look: imgforge -C FOLDER rotate --all"));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_found_below_and_what_is_theirs_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "project = \"x\"\n").unwrap();
        };
        assert!(find(root.path()).unwrap_err().what().contains("there is no imgforge.toml"));
        for path in ["b/imgforge.toml", "a/imgforge.toml", "group/c/imgforge.toml"] {
            write(path);
        }
        for path in ["a/vendored/imgforge.toml", ".hidden/imgforge.toml", "node_modules/x/imgforge.toml"] {
            write(path);
        }
        let found = find(root.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(root.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a"), Path::new("b"), Path::new("group/c")]);
    }
}
