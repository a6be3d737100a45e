//! Cuts a large tree into several layers, so that one changed file makes one of them anew and not all.
//!
//! Where is cut follows from each file's own path and size, as content-defined chunking does it: a file more or less moves the
//! cuts next to it and no others. The same tree is cut in the same places on any machine (contract 8).

use sha2::{Digest as _, Sha256};

use super::{Node, Tree, What};

/// A tree up to this size is one layer.
const TARGET: u64 = 2 << 20;
/// Images have 127 layers at most; a tree gets about so many of them.
const PARTS: u64 = 32;
/// What a tar needs for an entry besides its content.
const ENTRY: u64 = 1024;

impl Tree {
    /// The tree in parts, in order. Each has its own entries and needs those before it.
    pub fn split(self) -> Vec<Tree> {
        let total: u64 = self.nodes.values().map(weight).sum();
        if total <= TARGET {
            return vec![self];
        }
        // A power of two times the smallest: a tree that grows a little keeps its cuts.
        let target = TARGET * total.div_ceil(TARGET * PARTS).next_power_of_two();
        let mut parts = vec![Tree::default()];
        let mut size = 0;
        for (path, node) in self.nodes {
            let weight = weight(&node);
            let ends =
                size + weight >= target / 4 && (size + weight >= target * 4 || is_cut(&path, weight, target));
            size = if ends { 0 } else { size + weight };
            parts.last_mut().expect("there is a first").nodes.insert(path, node);
            if ends {
                parts.push(Tree::default());
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }
}

fn weight(node: &Node) -> u64 {
    let content = match &node.what {
        // About as large as its source. It is not there yet.
        What::Compiled(module) => &module.source,
        what => what,
    };
    ENTRY
        + match content {
            What::Bytes(bytes) => bytes.len() as u64,
            What::File(source) => source.size,
            What::Directory | What::Link(_) | What::Compiled(_) => 0,
        }
}

/// Once in `target` bytes on average, whatever the files' sizes.
fn is_cut(path: &str, weight: u64, target: u64) -> bool {
    let hash = Sha256::digest(path.as_bytes());
    let drawn = u64::from(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]));
    u128::from(drawn) * u128::from(target) < u128::from(weight) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Owner;

    fn tree(files: impl IntoIterator<Item = (String, usize)>) -> Tree {
        let mut tree = Tree::default();
        for (path, size) in files {
            tree.insert(path, What::Bytes(vec![b'x'; size]), Owner::default(), 0o644);
        }
        tree
    }

    fn files(count: usize) -> impl Iterator<Item = (String, usize)> {
        (0..count).map(|number| (format!("app{}/module{number}.py", number / 100), 3000))
    }

    fn keys(tree: Tree) -> Vec<String> {
        tree.split().iter().map(|part| part.key().to_string()).collect()
    }

    #[test]
    fn a_small_tree_is_one_layer() {
        assert_eq!(tree(files(300)).split().len(), 1);
    }

    #[test]
    fn nothing_is_lost_and_no_part_is_large() {
        let whole = tree(files(20_000));
        let parts = whole.clone().split();
        assert!((8..40).contains(&parts.len()), "{}", parts.len());
        let mut together = Tree::default();
        for part in &parts {
            let size: u64 = part.nodes.values().map(weight).sum();
            assert!(size <= 16 * TARGET, "{size}");
            together.nodes.extend(part.nodes.clone());
        }
        assert_eq!(together.key(), whole.key());
    }

    #[test]
    fn a_changed_file_changes_one_part_and_a_new_one_no_more_than_its_neighbours() {
        let before = keys(tree(files(20_000)));
        let changed = files(20_000).map(|(path, size)| match path.as_str() {
            "app77/module7777.py" => (path, size + 1),
            _ => (path, size),
        });
        let new = files(20_000).chain([("app77/another.py".to_owned(), 100)]);
        for after in [keys(tree(changed)), keys(tree(new))] {
            let same = after.iter().filter(|key| before.contains(key)).count();
            assert!(same + 2 >= after.len(), "{same} of {} are the same", after.len());
        }
    }

    #[test]
    fn a_file_of_any_size_is_in_one_part() {
        let parts = tree([("a".to_owned(), 100), ("b".to_owned(), 40 << 20), ("c".to_owned(), 100)]).split();
        assert!((1..=3).contains(&parts.len()), "{}", parts.len());
    }
}
