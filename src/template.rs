//! `init`: what a Django project needs to be built, released and run, from the files below `templates/`.
//!
//! A project is read ([`site::Site`]), the answers are known ([`Answers`]), and from both follows a list of changes
//! ([`change::Change`]) that names every file before one of them is written. Nothing here asks and nothing here prints.

use std::path::Path;

use clap::ValueEnum;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};

use self::change::{Change, Proposal};
use self::files::{FILES, Form, INCLUDED, Part};
use self::site::Site;
use crate::error::{Error, Result};

pub mod change;
mod files;
mod requirements;
pub mod site;

/// Debian's release in bases made of its packages.
const SUITE: &str = "trixie";

/// Which program runs the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// gunicorn
    Gunicorn,
    /// uWSGI
    Uwsgi,
}

/// How images are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// A Docker daemon runs Dockerfiles
    Docker,
    /// No Dockerfile and no daemon: needs uv, and packages that have wheels
    Direct,
}

/// Where bases come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bases {
    /// The official images on Docker Hub
    Hub,
    /// Debian packages (mmdebstrap): no registry, no account
    Debian,
}

/// Where images of the environment "production" go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registry {
    /// Amazon's, in the account and region that deploys.
    Ecr,
    /// Docker Hub, below this user or organization.
    Hub(String),
}

/// What `init` asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The project's name: images, buckets, services are called after it.
    pub project: String,
    /// Which program runs the site.
    pub server: Server,
    /// How images are built.
    pub engine: EngineChoice,
    /// Where bases come from.
    pub bases: Bases,
    /// Where images of the environment "production" go.
    pub registry: Registry,
}

/// A project's name made of a folder's: lower case letters, digits and dashes, a letter first.
pub fn project_name(folder: &str) -> String {
    let plain: String = folder
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let name = plain.trim_matches(|c: char| c == '-' || c.is_ascii_digit());
    if name.is_empty() { "site".into() } else { name.into() }
}

/// What `init` would change below `root`, in the order in which it would.
///
/// # Errors
/// A file that is there cannot be read.
pub fn changes(root: &Path, site: &Site, answers: &Answers) -> Result<Vec<Change>> {
    let renderer = Renderer::new(site, answers)?;
    let mut changes = Vec::new();
    for file in FILES {
        let wanted = match file.part {
            Part::Every => true,
            Part::NewProject => site.is_new,
            Part::NoRequirements => site.requirements.is_none(),
            Part::Package => !site.is_flat(),
            Part::Flat => site.is_flat(),
            Part::Docker => answers.engine == EngineChoice::Docker,
            Part::Debian => answers.bases == Bases::Debian,
        };
        if !wanted {
            continue;
        }
        let path = renderer.render(file.path)?;
        let text = if file.verbatim { file.text.to_owned() } else { renderer.render(file.text)? };
        let proposal = match file.form {
            Form::Whole => Proposal::Whole(text),
            Form::Lines => Proposal::Lines(text),
            Form::Block => Proposal::Block(text),
            Form::Secret => Proposal::Secret(text),
        };
        changes.extend(Change::of(root, path.into(), proposal)?);
    }
    Ok(changes)
}

struct Renderer {
    environment: Environment<'static>,
    values: minijinja::Value,
}

impl Renderer {
    fn new(site: &Site, answers: &Answers) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .keep_trailing_newline(true)
            // A line with nothing but a tag leaves no line.
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(unrendered)?);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, text) in INCLUDED {
            environment.add_template(name, text).map_err(unrendered)?;
        }
        let database_password = random()?;
        let broker_password = random()?;
        let project = answers.project.as_str();
        let database = project.replace('-', "_");
        let values = context! {
            project, database, database_password, broker_password,
            server => word(answers.server),
            engine => word(answers.engine),
            bases => word(answers.bases),
            suite => SUITE,
            secret_key => random()?,
            production_repository => match &answers.registry {
                Registry::Ecr => format!("ecr:{project}-{{image}}"),
                Registry::Hub(user) => format!("docker.io/{user}/{project}-{{image}}"),
            },
            python_image => "docker.io/library/python:3.13-slim-trixie",
            nginx_image => "docker.io/library/nginx:1.28-trixie",
            postgres_image => "docker.io/library/postgres:17-trixie",
            memcached_image => "docker.io/library/memcached:1.6-trixie",
            rabbitmq_image => "docker.io/library/rabbitmq:4",
            package => site.package.as_str(),
            app => site.celery_app(),
            package_folder => site.package_folder(),
            settings_module => site.settings_module.as_str(),
            settings_file => site.settings_file.display().to_string(),
            settings_folder => site.settings_folder(),
            settings_package => site.settings_package(),
            flat => site.is_flat(),
            wsgi => site.wsgi.as_str(),
            django => site.django.as_str(),
            requirements_copy => site.requirements_copy(),
            requirements_from_dockerfiles => format!("../{}", site.requirements_file()),
            requirements => requirements::missing(&site.named),
        };
        Ok(Renderer { environment, values })
    }

    fn render(&self, text: &str) -> Result<String> {
        self.environment
            .render_str(text, &self.values)
            .map_err(unrendered)
    }
}

/// What stands for a choice on the command line and in templates.
fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn unrendered(error: minijinja::Error) -> Error {
    Error::failed("a template of imgforge cannot be rendered").because(error)
}

/// 32 random bytes in hexadecimal digits.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::failed("the system gives no random numbers").because(error.to_string()))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_a_name_that_configuration_takes() {
        for (folder, name) in [("shop", "shop"), ("My_Site 2", "my-site-2"), ("2024-shop-", "shop"), ("--", "site")] {
            assert_eq!(project_name(folder), name, "{folder}");
        }
    }
}
