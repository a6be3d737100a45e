//! Which tables go with which engine, and what those of engine `direct` say together.

use std::ops::Range;
use std::path::{Component, Path};

use toml::Spanned;

use super::Reader;
use crate::config::direct::{PythonConfig, UserConfig};
use crate::config::{EngineName, ImageConfig};
use crate::error::Result;

impl Reader<'_> {
    pub(super) fn check_engine(&self, name: &str, image: &ImageConfig) -> Result<()> {
        match image.engine() {
            EngineName::Docker => self.refuse_tables_of_direct(name, image),
            EngineName::Direct => self.check_direct(name, image),
        }
    }

    fn refuse_tables_of_direct(&self, name: &str, image: &ImageConfig) -> Result<()> {
        let spans: [(&str, Option<Range<usize>>); 6] = [
            ("python", image.python.as_ref().map(Spanned::span)),
            ("copy", image.copy.first().map(Spanned::span)),
            ("static", image.statics.as_ref().map(Spanned::span)),
            ("users", image.users.first().map(Spanned::span)),
            ("directories", image.directories.first().map(Spanned::span)),
            ("config", image.settings.as_ref().map(Spanned::span)),
        ];
        if let Some(platform) = image.platforms.first() {
            let what = format!("image {name:?} is built by the Docker daemon, for the daemon's own platform");
            return Err(self
                .at(platform.span(), what, "platforms")
                .help(format!("take it out, or add engine = \"direct\" to [images.{name}]")));
        }
        for (table, span) in spans {
            if let Some(span) = span {
                return Err(self
                    .at(span, format!("image {name:?} is built from a Dockerfile, which says this"), table)
                    .help(format!(
                        "write it into the Dockerfile, or add engine = \"direct\" to [images.{name}]"
                    )));
            }
        }
        Ok(())
    }

    fn check_direct(&self, name: &str, image: &ImageConfig) -> Result<()> {
        let engine = image.engine.as_ref().map(Spanned::span).unwrap_or_default();
        if let Some(dockerfile) = &image.dockerfile {
            return Err(self
                .at(dockerfile.span(), "engine \"direct\" runs no Dockerfile", "not with engine = \"direct\"")
                .help(format!("take it away, or take engine = \"docker\" for image {name:?}")));
        }
        if image.target.is_some() || !image.args.is_empty() {
            return Err(self
                .at(engine, "engine \"direct\" has no stages and no build arguments", "here")
                .help(format!("take target and args out of [images.{name}]")));
        }
        if image.base.is_none() {
            return Err(self
                .at(engine, format!("image {name:?} has no base"), "engine \"direct\" wants one")
                .help("add base = \"…\", a name in [bases]"));
        }
        for (number, platform) in image.platforms.iter().enumerate() {
            if image.platforms[..number].iter().any(|other| other.get_ref() == platform.get_ref()) {
                let what = format!("image {name:?} is built for {} twice", platform.get_ref().0);
                return Err(self.at(platform.span(), what, "again").help("take one of them out"));
            }
        }
        if let Some(python) = &image.python {
            self.check_python(python)?;
        }
        for copy in &image.copy {
            self.check_below("copy", "from", &copy.get_ref().from)?;
        }
        if let Some(statics) = &image.statics {
            let statics = statics.get_ref();
            self.check_below("static", "from", &statics.from)?;
            if statics.command.get_ref().is_empty() {
                return Err(self.at(statics.command.span(), "the command is empty", "here"));
            }
        }
        image.users.iter().try_for_each(|user| self.check_user(user))?;
        self.check_environment(name, image)
    }

    fn check_python(&self, python: &Spanned<PythonConfig>) -> Result<()> {
        let (span, python) = (python.span(), python.get_ref());
        if python.requirements.is_none() && python.packages.is_empty() {
            return Err(self
                .at(span, "there are no packages to install", "here")
                .help("add requirements = \"requirements.txt\" or packages = [\"gunicorn==27.0.1\"]"));
        }
        // uv takes a lock file of this form alone.
        let file = python.requirements.as_ref().and_then(|path| path.get_ref().file_name());
        if let (Some(file), Some(package)) = (file.and_then(|name| name.to_str()), python.packages.first())
            && file.starts_with("pylock.")
        {
            return Err(self
                .at(package.span(), format!("packages cannot be added to those of {file}"), "here")
                .help("lock them, too: name them in what the file is made from"));
        }
        for package in &python.packages {
            // They become arguments of uv.
            let text = package.get_ref().trim();
            if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) || text.contains('\n') {
                return Err(self
                    .at(package.span(), "a package is a name with what it must be", "here")
                    .help("such as \"gunicorn==27.0.1\""));
            }
        }
        if let Some(version) = &python.version {
            let parts: Vec<&str> = version.get_ref().split('.').collect();
            let numbers = parts.iter().all(|part| part.parse::<u16>().is_ok());
            if !numbers || !(2..=3).contains(&parts.len()) {
                return Err(self.at(version.span(), "a Python version is such as \"3.11\"", "here"));
            }
        }
        if python.path.get_ref().relative().is_empty() {
            return Err(self.at(python.path.span(), "packages need a folder of their own", "here"));
        }
        Ok(())
    }

    /// A path below the context: nothing else gets into an image.
    fn check_below(&self, table: &str, key: &str, path: &Spanned<std::path::PathBuf>) -> Result<()> {
        let outside = |part| !matches!(part, Component::Normal(_) | Component::CurDir);
        if Path::new(path.get_ref()).components().any(outside) {
            return Err(self
                .at(path.span(), format!("{table}.{key} is a path below the build context"), "here")
                .help("set context to a folder that holds it, and write the rest of the path here"));
        }
        Ok(())
    }

    fn check_user(&self, user: &Spanned<UserConfig>) -> Result<()> {
        let user = user.get_ref();
        let name = user.name.get_ref();
        // useradd's own rule (shadow, libmisc/chkname.c).
        let first = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !first || !name.bytes().all(allowed) || name.len() > 32 {
            return Err(self
                .at(user.name.span(), "a user's name is lower case letters, digits, - and _", "here")
                .help("it begins with a letter"));
        }
        if user.shell.get_ref().contains([':', '\n']) {
            return Err(self.at(user.shell.span(), "a shell is a path", "here"));
        }
        Ok(())
    }

    fn check_environment(&self, name: &str, image: &ImageConfig) -> Result<()> {
        let Some(settings) = &image.settings else { return Ok(()) };
        let bad = |key: &str| key.is_empty() || key.contains(['=', '\0']);
        match settings.get_ref().env.keys().find(|key| bad(key)) {
            Some(key) => Err(self.at(
                settings.span(),
                format!("image {name:?} sets {key:?}, which is not a variable's name"),
                "in env",
            )),
            None => Ok(()),
        }
    }
}
