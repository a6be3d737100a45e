//! How a compose file is told its images: one variable each, `IMGFORGE_WEB` for the image `web`.
//!
//! The same lines are kept in a file, so that compose can be used by hand with `--env-file`. It holds names of images
//! and nothing else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::digest::Digest;
use crate::image::reference::Reference;

/// The variable that stands for an image in the compose file.
pub fn variable(image: &str) -> String {
    let name: String =
        image.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("IMGFORGE_{name}")
}

/// Stands before a variable's name in a line that tells where in a registry its image is.
const REFERENCE_OF: &str = "REFERENCE_OF_";

/// What each variable stands for: an image id, or a reference by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    values: BTreeMap<String, String>,
    /// Where in a registry the image of a variable is, when that is known.
    references: BTreeMap<String, String>,
}

impl Images {
    /// One image more.
    pub fn insert(&mut self, image: &str, value: impl Into<String>) {
        self.values.insert(variable(image), value.into());
    }

    /// Whether the variable of an image stands for the image of this id.
    pub fn is(&self, image: &str, id: &Digest) -> bool {
        self.values.get(&variable(image)).is_some_and(|value| *value == id.to_string())
    }

    /// Where in a registry an image is.
    pub fn insert_reference(&mut self, image: &str, reference: &Reference) {
        self.references.insert(variable(image), reference.to_string());
    }

    /// Where in a registry an image is, when that is known.
    pub fn reference(&self, image: &str) -> Option<Reference> {
        self.references.get(&variable(image))?.parse().ok()
    }

    /// The variables and their values.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes what is missing here from `other`.
    pub fn or(mut self, other: &Images) -> Self {
        for (name, value) in &other.values {
            if let Entry::Vacant(vacant) = self.values.entry(name.clone()) {
                vacant.insert(value.clone());
                // A value and where it is from belong together.
                match other.references.get(name) {
                    Some(reference) => self.references.insert(name.clone(), reference.clone()),
                    None => self.references.remove(name),
                };
            }
        }
        self
    }

    /// Values that no image has, for commands that only read the compose file.
    pub fn placeholders<'a>(images: impl IntoIterator<Item = &'a str>) -> Self {
        let mut placeholders = Images::default();
        for image in images {
            placeholders.insert(image, placeholder(image));
        }
        placeholders
    }

    /// One `NAME=value` a line.
    pub fn to_env(&self) -> String {
        let values = self.values.iter().map(|(name, value)| format!("{name}={value}\n"));
        let references =
            self.references.iter().map(|(name, reference)| format!("{REFERENCE_OF}{name}={reference}\n"));
        values.chain(references).collect()
    }

    /// Reads what [`Images::to_env`] wrote. Lines of other forms are left out.
    pub fn from_env(text: &str) -> Self {
        let mut images = Images::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let (of, name) = match name.strip_prefix(REFERENCE_OF) {
                Some(name) => (&mut images.references, name),
                None => (&mut images.values, name),
            };
            if name.starts_with("IMGFORGE_") && !value.is_empty() {
                of.insert(name.to_owned(), value.to_owned());
            }
        }
        images
    }
}

/// The value of an image's variable while only the compose file is looked at. Its tag is the name's digest, which
/// keeps "a-b" and "a_b" apart.
pub fn placeholder(image: &str) -> String {
    format!("imgforge.invalid/image:{}", Digest::of(image.as_bytes()).short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        let mut images = Images::default();
        images.insert("web", "sha256:12");
        images.insert("static-files", "127.0.0.1:5000/shop/static@sha256:34");
        let text = images.to_env();
        assert_eq!(
            text,
            "IMGFORGE_STATIC_FILES=127.0.0.1:5000/shop/static@sha256:34\nIMGFORGE_WEB=sha256:12\n"
        );
        assert_eq!(Images::from_env(&text), images);
        images.insert_reference("web", &"127.0.0.1:5000/shop/web:1".parse().unwrap());
        let text = images.to_env();
        assert!(text.ends_with("\nREFERENCE_OF_IMGFORGE_WEB=127.0.0.1:5000/shop/web:1\n"), "{text}");
        assert_eq!(Images::from_env(&text), images);
    }

    #[test]
    fn reads_only_its_own_lines() {
        let images = Images::from_env("# by hand\nPATH=/bin\nIMGFORGE_WEB=\nIMGFORGE_NGINX=a\n");
        assert_eq!(images.to_env(), "IMGFORGE_NGINX=a\n");
    }

    #[test]
    fn what_is_missing_comes_from_the_other() {
        let old = Images::from_env("IMGFORGE_WEB=old\n");
        let new = Images::from_env("IMGFORGE_WEB=new\nIMGFORGE_WORKER=new\n");
        assert_eq!(old.or(&new).to_env(), "IMGFORGE_WEB=old\nIMGFORGE_WORKER=new\n");
        let old = Images::from_env("IMGFORGE_WEB=old\n");
        let new = Images::from_env(
            "IMGFORGE_A=new\nIMGFORGE_WEB=new\nREFERENCE_OF_IMGFORGE_A=h.io/a\nREFERENCE_OF_IMGFORGE_WEB=h.io/web\n",
        );
        let both = old.or(&new);
        assert_eq!(both.reference("web"), None, "it is another image's");
        assert!(both.reference("a").is_some());
    }
}
