//! The Python modules of a tree, and what they compile to.
//!
//! Compiled modules are not checked against their sources when they are imported (PEP 552, unchecked hash), as in a folder of
//! packages: both are in one image. So a source that is put over another one must not leave the other's compiled form: the
//! modules of later copies are compiled where those of earlier ones were, and those in the place of a secret file never.

use std::collections::BTreeSet;

use super::{OPEN, PLAIN, Rootfs, Tree, What};
use crate::config::Owner;
use crate::digest::Digest;

/// Raised by every change of what is made from the same source.
const RECIPE: u32 = 1;
/// The folder of what is compiled, beside the sources (PEP 3147).
const FOLDER: &str = "__pycache__";

/// A module that is to be compiled.
#[derive(Debug, Clone)]
pub(in crate::engine::direct) struct Module {
    /// Its source.
    pub(in crate::engine::direct) source: Box<What>,
    /// Where that is in the image, without a leading slash; tracebacks name it.
    pub(in crate::engine::direct) path: String,
    /// The Python that is to read it: `3.11`.
    pub(in crate::engine::direct) python: String,
}

impl Module {
    /// What the compiled form is kept by.
    pub(in crate::engine::direct) fn key(&self) -> Digest {
        let source = match &*self.source {
            What::Bytes(bytes) => Digest::of(bytes),
            What::File(source) => source.digest,
            // Neither is a module.
            What::Directory | What::Link(_) | What::Compiled(_) => Digest::of(b""),
        };
        Digest::of(format!("module {RECIPE} {} {source} {}", self.python, self.path).as_bytes())
    }
}

/// Which modules of an image are compiled, copy after copy.
#[derive(Debug)]
pub(in crate::engine::direct) struct Modules {
    /// `3.11`
    python: String,
    /// Where nothing is compiled.
    never: BTreeSet<String>,
    so_far: BTreeSet<String>,
}

impl Modules {
    /// Compiled for this Python, without those at paths where secret files will be.
    pub(in crate::engine::direct) fn new(python: String, baked: &[String]) -> Self {
        let never = baked.iter().map(|path| path.trim_start_matches('/').to_owned()).collect();
        Modules { python, never, so_far: BTreeSet::new() }
    }

    /// Adds the compiled form of every module of `tree`. What the context has in such folders is left out.
    pub(in crate::engine::direct) fn add_all(&mut self, tree: &mut Tree, owner: Owner, rootfs: &Rootfs) {
        tree.nodes.retain(|path, _| !path.split('/').any(|part| part == FOLDER));
        self.add(tree, owner, rootfs, |_| true);
    }

    /// Adds that of modules that were compiled in an earlier tree.
    pub(in crate::engine::direct) fn add_replaced(&mut self, tree: &mut Tree, owner: Owner, rootfs: &Rootfs) {
        let before = self.so_far.clone();
        self.add(tree, owner, rootfs, |path| before.contains(path));
    }

    fn add(&mut self, tree: &mut Tree, owner: Owner, rootfs: &Rootfs, wanted: impl Fn(&str) -> bool) {
        let is_module = |(path, what): &(&String, &What)| {
            path.ends_with(".py") && matches!(what, What::File(_) | What::Bytes(_))
        };
        let modules = tree.nodes.iter().map(|(path, node)| (path, &node.what)).filter(is_module);
        let modules = modules.filter(|(path, _)| wanted(path) && !self.never.contains(*path));
        let modules: Vec<Module> = modules
            .map(|(path, what)| Module {
                source: Box::new(what.clone()),
                path: path.clone(),
                python: self.python.clone(),
            })
            .collect();
        let tag = format!("cpython-{}", self.python.replace('.', ""));
        for module in modules {
            self.so_far.insert(module.path.clone());
            let (folder, name) = module.path.rsplit_once('/').unwrap_or(("", &module.path));
            let folder = if folder.is_empty() { FOLDER.to_owned() } else { format!("{folder}/{FOLDER}") };
            let compiled = format!("{folder}/{}.{tag}.pyc", name.strip_suffix(".py").unwrap_or(name));
            if !rootfs.has_directory(&folder) {
                tree.insert(folder, What::Directory, owner, OPEN);
            }
            tree.insert(compiled, What::Compiled(module), owner, PLAIN);
        }
    }
}

impl Tree {
    /// The modules that are to be compiled, by where that goes.
    pub(in crate::engine::direct) fn modules(&self) -> Vec<(String, Module)> {
        let compiled = self.nodes.iter().filter_map(|(path, node)| match &node.what {
            What::Compiled(module) => Some((path.clone(), module.clone())),
            What::Directory | What::Bytes(_) | What::File(_) | What::Link(_) => None,
        });
        compiled.collect()
    }

    /// Puts what a module compiled to in its place; without any nothing is there.
    pub(in crate::engine::direct) fn set_compiled(&mut self, path: &str, compiled: Option<Vec<u8>>) {
        match (self.nodes.get_mut(path), compiled) {
            (Some(node), Some(bytes)) => node.what = What::Bytes(bytes),
            (Some(_), None) => {
                self.nodes.remove(path);
            }
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for path in files {
            tree.insert(*path, What::Bytes(path.as_bytes().to_vec()), Owner::default(), PLAIN);
        }
        tree
    }

    fn compiled(tree: &Tree) -> Vec<String> {
        tree.modules().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn modules_are_compiled_beside_their_sources_and_what_the_context_has_there_is_left_out() {
        let mut site = tree(&["a.py", "b/c.py", "b/c.txt", "b/__pycache__/c.cpython-39.pyc"]);
        Modules::new("3.11".into(), &[]).add_all(&mut site, Owner::default(), &Rootfs::default());
        assert_eq!(compiled(&site), ["__pycache__/a.cpython-311.pyc", "b/__pycache__/c.cpython-311.pyc"]);
        assert!(!site.nodes.contains_key("b/__pycache__/c.cpython-39.pyc"));
        assert!(matches!(site.nodes["b/__pycache__"].what, What::Directory));
    }

    #[test]
    fn no_compiled_module_outlives_its_source() {
        let (owner, rootfs) = (Owner::default(), Rootfs::default());
        let mut modules = Modules::new("3.11".into(), &["/srv/secret.py".into()]);
        let (mut lower, mut upper) = (tree(&["srv/a.py", "srv/secret.py"]), tree(&["srv/a.py", "srv/b.py"]));
        modules.add_all(&mut lower, owner, &rootfs);
        modules.add_replaced(&mut upper, owner, &rootfs);
        assert_eq!(compiled(&lower), ["srv/__pycache__/a.cpython-311.pyc"]);
        assert_eq!(compiled(&upper), ["srv/__pycache__/a.cpython-311.pyc"]);
    }

    #[test]
    fn a_tree_is_named_by_the_sources_and_the_python_before_anything_is_compiled() {
        let key = |python: &str| {
            let mut site = tree(&["a.py"]);
            Modules::new(python.into(), &[]).add_all(&mut site, Owner::default(), &Rootfs::default());
            site.key()
        };
        assert_eq!(key("3.11"), key("3.11"));
        assert_ne!(key("3.11"), key("3.12"));
        assert_ne!(key("3.11"), tree(&["a.py"]).key());
    }
}
