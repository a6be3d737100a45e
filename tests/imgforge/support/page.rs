//! A copy of `fixtures/page`: a site of one page, for what concerns building only.

use std::path::{Path, PathBuf};

use super::debian;
use super::docker::{remove_images, unique};
use super::program::Program;
use super::shop::copy;

/// Dropped, it takes its images with it.
pub struct Page {
    dir: tempfile::TempDir,
    project: String,
}

impl Page {
    /// Built with its Dockerfile. Its base is made already: it is the same for all.
    pub async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("imgforge-page-").tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/page"), dir.path());
        let page = Page { project: unique("page"), dir };
        let config = page.read("imgforge.toml");
        let named = config.replacen("project = \"shop\"", &format!("project = \"{}\"", page.project), 1);
        assert_ne!(named, config);
        page.write("imgforge.toml", &named);
        copy(&page.path("secrets.sample"), &page.path("secrets"));
        debian::base(&["python3", "python3-venv", "ca-certificates"]).await;
        std::fs::create_dir(page.path(".imgforge")).unwrap();
        std::os::unix::fs::symlink(debian::bases(), page.path(".imgforge/bases")).unwrap();
        page
    }

    /// Built directly, without its Dockerfile.
    pub async fn direct() -> Self {
        let page = Page::new().await;
        let config = page.read("imgforge.toml");
        let lines = config
            .lines()
            .map(|line| if line.starts_with("dockerfile ") { "engine = \"direct\"" } else { line });
        let config: String = lines.flat_map(|line| [line, "\n"]).collect();
        page.write("imgforge.toml", &format!("{config}{}", include_str!("page/web.toml")));
        page
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// imgforge in it.
    pub fn program(&self) -> Program {
        Program::new(self.dir.path())
    }

    /// The project's folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        remove_images(&self.project);
    }
}
