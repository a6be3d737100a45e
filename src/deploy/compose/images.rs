//! How a compose file is told its images: one variable each, `IMGFORGE_WEB` for the image `web`.
//!
//! The same lines are kept in a file, so that compose can be used by hand with `--env-file`. It holds names of images
//! and nothing else.

use std::collections::BTreeMap;

use crate::digest::Digest;

/// The variable that stands for an image in the compose file.
pub fn variable(image: &str) -> String {
    let name: String =
        image.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("IMGFORGE_{name}")
}

/// What each variable stands for: an image id, or a reference by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images(BTreeMap<String, String>);

impl Images {
    /// One image more.
    pub fn insert(&mut self, image: &str, value: impl Into<String>) {
        self.0.insert(variable(image), value.into());
    }

    /// The variables and their values.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes what is missing here from `other`.
    pub fn or(mut self, other: &Images) -> Self {
        for (name, value) in &other.0 {
            self.0.entry(name.clone()).or_insert_with(|| value.clone());
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
        self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// Reads what [`Images::to_env`] wrote. Lines of other forms are left out.
    pub fn from_env(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Images(
            lines
                .filter(|(name, value)| name.starts_with("IMGFORGE_") && !value.is_empty())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
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
    }
}
