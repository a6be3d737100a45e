//! `init`: what a Django project needs to be built, released and run, from the files below `templates/`.
//!
//! A project is read ([`site::Site`]), the answers are known ([`Answers`]), and from both follows a list of changes
//! ([`change::Change`]) that names every file before one of them is written. Nothing here asks and nothing here prints.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, context};

use self::change::Change;
use self::compiled::Compiled;
use self::files::{FILES, INCLUDED, Part};
use self::set_back::set_back;
use self::site::Site;
pub use self::unfilled::{Unfilled, unfilled};
use self::value::{Parts, Value};
use crate::error::{Error, Result};
use crate::random;

pub mod change;
pub mod compiled;
mod files;
mod requirements;
mod set_back;
pub mod site;
mod unfilled;
mod uv_lock;
mod value;
pub mod variables;

/// Debian's release in bases made of its packages.
const SUITE: &str = "trixie";
/// What STORAGES was before.
const OLD_STORAGES: [&str; 2] = ["DEFAULT_FILE_STORAGE", "STATICFILES_STORAGE"];
/// What reads uv.lock while an image is built.
const UV: &str = "uv==0.13.9";
/// Modules of Python and of the site's packages whose names come to mind for a project.
const TAKEN: [&str; 24] = [
    "array",
    "boto3",
    "calendar",
    "celery",
    "code",
    "django",
    "email",
    "gunicorn",
    "health",
    "html",
    "http",
    "json",
    "logging",
    "platform",
    "queue",
    "secrets",
    "select",
    "signal",
    "site",
    "statistics",
    "string",
    "test",
    "thumbnails",
    "types",
];

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

/// What runs the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ci {
    /// GitHub Actions
    Github,
    /// GitLab
    Gitlab,
    /// CircleCI
    Circleci,
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
    /// What runs the pipeline.
    pub ci: Vec<Ci>,
}

/// A project's name made of a folder's: lower case letters, digits and dashes, a letter first.
pub fn project_name(folder: &str) -> String {
    let plain: String = folder
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let name = plain.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()).trim_end_matches('-');
    if name.is_empty() { "website".into() } else { name.into() }
}

/// Why a project that init writes cannot have this name: its package would hide another.
pub fn taken(project: &str) -> Option<String> {
    TAKEN
        .contains(&project)
        .then(|| format!("a package {project:?} would hide Python's own, or one that the site needs"))
}

/// What `init` would change below `root`, in the order in which it would.
///
/// # Errors
/// A file that is there cannot be read.
pub fn changes(root: &Path, site: &Site, answers: &Answers) -> Result<Vec<Change>> {
    let renderer = Renderer::new(site, answers)?;
    let mut changes: Vec<Change> = Vec::new();
    for file in FILES {
        let wanted = match file.part {
            Part::Every => true,
            Part::NewProject => site.is_new,
            Part::NoRequirements => site.requirements.is_none(),
            Part::Package => !site.is_flat(),
            Part::Flat => site.is_flat(),
            Part::Variables => !site.variables.wanted.is_empty(),
            Part::Docker => answers.engine == EngineChoice::Docker,
            Part::Debian => answers.bases == Bases::Debian,
            Part::Ci(ci) => answers.ci.contains(&ci),
        };
        if !wanted {
            continue;
        }
        let path = renderer.render(file.path)?;
        let text = if file.verbatim { file.text.to_owned() } else { renderer.render(file.text)? };
        let path = PathBuf::from(path);
        match changes.iter_mut().find(|change| change.path == path) {
            // A new project's settings get their block like any other's.
            Some(change) => change.and(file.form, &text),
            None => changes.extend(Change::of(root, path, file.form, &text)?),
        }
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
        let database_password = password()?;
        let broker_password = password()?;
        let project = answers.project.as_str();
        let database = project.replace('-', "_");
        let secret_key = password()?;
        let parts = Parts {
            database: &database,
            database_password: &database_password,
            broker_password: &broker_password,
            secret_key: &secret_key,
        };
        let variables: Vec<Value> =
            site.variables.wanted.iter().map(|variable| Value::of(variable, &parts)).collect();
        let values = context! {
            project, database, database_password, broker_password,
            server => word(answers.server),
            engine => word(answers.engine),
            bases => word(answers.bases),
            suite => SUITE,
            secret_key,
            variables => minijinja::Value::from(Serde(&variables)),
            variables_file => site.variables_file().display().to_string(),
            set_back => minijinja::Value::from(Serde(set_back(&site.variables))),
            atomic_requests => site.variables.value("ATOMIC_REQUESTS") == Some("True"),
            old_storages => OLD_STORAGES.iter().any(|name| site.variables.sets(name)),
            result_backend => site.variables.sets("CELERY_RESULT_BACKEND"),
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
            whoosh => site.variables.values("HAYSTACK_CONNECTIONS.ENGINE").any(|engine| engine.contains("Whoosh")),
            settings_folder_from_variables => site.settings_folder_from_variables(),
            settings_package => site.settings_package(),
            compose_file => site.compose_file,
            wsgi => site.wsgi.as_str(),
            django => site.django.as_str(),
            locked => site.is_locked(),
            compiled => minijinja::Value::from(Serde(Compiled::of(&site.named))),
            requirements_copy => site.requirements_copy(),
            requirements_from_dockerfiles => format!("../{}", site.requirements_file()),
            requirements => requirements::missing(&site.named),
            uv => UV,
            install => install(site),
            test => test(site),
        };
        Ok(Renderer { environment, values })
    }

    fn render(&self, text: &str) -> Result<String> {
        self.environment.render_str(text, &self.values).map_err(unrendered)
    }
}

/// The commands that a pipeline's tests install the site's packages with, those for developers among them.
fn install(site: &Site) -> Vec<String> {
    let mut commands = Vec::new();
    if site.is_locked() {
        commands.push(format!("pip install {UV}"));
        commands.push(
            "uv export --frozen --no-emit-project --no-header --quiet --output-file /tmp/locked.txt".into(),
        );
        commands.push("pip install --requirement /tmp/locked.txt".into());
    }
    commands.push("pip install --requirement dockerfiles/requirements.txt".into());
    commands
}

/// The command that a pipeline tests the site with. Settings for servers find the variables that they want in `ENVIRONMENT` of
/// local_settings; a developer's own, which manage.py names, do not.
fn test(site: &Site) -> String {
    match site.developers_want {
        true => format!("python manage.py test --settings {}", site.settings_module),
        false => "python manage.py test".into(),
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
fn password() -> Result<String> {
    let mut bytes = [0; 32];
    random::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// A folder with these files.
#[cfg(test)]
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = folder.path().join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }
    folder
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, EngineName, Target};

    fn written(answers: &Answers) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let changes = changes(folder.path(), &Site::new(&answers.project), answers).unwrap();
        changes.into_iter().map(|change| (change.path.display().to_string(), change.after)).collect()
    }

    fn every_answer() -> Vec<Answers> {
        let mut all = Vec::new();
        for server in [Server::Gunicorn, Server::Uwsgi] {
            for engine in [EngineChoice::Docker, EngineChoice::Direct] {
                for bases in [Bases::Hub, Bases::Debian] {
                    for registry in [Registry::Ecr, Registry::Hub("someone".into())] {
                        let ci = vec![Ci::Github, Ci::Gitlab, Ci::Circleci];
                        all.push(Answers { project: "my-shop".into(), server, engine, bases, registry, ci });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn a_folder_gives_a_name_that_configuration_takes() {
        for (folder, name) in [
            ("shop", "shop"),
            ("My_Site 2", "my-site-2"),
            ("2024-shop-", "shop"),
            ("n1", "n1"),
            ("--", "website"),
        ] {
            assert_eq!(project_name(folder), name, "{folder}");
            assert_eq!(taken(name), None);
        }
        assert!(taken("site").is_some());
    }

    #[test]
    fn every_answer_gives_a_configuration_for_one_machine_and_one_for_aws() {
        let lookup = |name: &str| (name == "BUCKET_NAME").then(|| "a-bucket".to_owned());
        for answers in every_answer() {
            let text = &written(&answers)["imgforge.toml"];
            let parse = |environment| {
                Config::parse("/project".into(), text, environment, &lookup)
                    .unwrap_or_else(|error| panic!("{answers:?}: {error}\n{text}"))
            };
            let (here, aws) = (parse(None), parse(Some("production")));
            let names = |config: &Config| config.images.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&here), ["memcached", "nginx", "postgres", "rabbitmq", "web"]);
            assert_eq!(names(&aws), ["nginx", "web"]);
            assert_eq!(*aws.deploy.as_ref().unwrap().target.get_ref(), Target::Ecs);
            let engine =
                if answers.engine == EngineChoice::Docker { EngineName::Docker } else { EngineName::Direct };
            assert_eq!(aws.images["web"].engine(), engine);
            let repository = aws.registry.repository.get_ref().as_str();
            match answers.registry {
                Registry::Ecr => assert_eq!(repository, "ecr:my-shop-{image}"),
                Registry::Hub(_) => assert_eq!(repository, "docker.io/someone/my-shop-{image}"),
            }
            // One line says which server it is.
            let word = word(answers.server);
            assert_eq!(text.matches(&format!("SERVER = \"{word}\"")).count(), 1, "{text}");
        }
    }

    #[test]
    fn a_locked_project_is_installed_from_its_lock() {
        let lookup = |name: &str| (name == "BUCKET_NAME").then(|| "a-bucket".to_owned());
        let folder = tempfile::tempdir().unwrap();
        for answers in every_answer() {
            let site = Site { is_new: false, requirements: Some("uv.lock".into()), ..Site::new("my-shop") };
            let changes = changes(folder.path(), &site, &answers).unwrap();
            let text = |path: &str| {
                changes.iter().find(|change| change.path == Path::new(path)).unwrap().after.clone()
            };
            let config = Config::parse("/project".into(), &text("imgforge.toml"), None, &lookup).unwrap();
            if answers.engine == EngineChoice::Direct {
                let python = config.images["web"].python.as_ref().unwrap().get_ref();
                assert_eq!(python.requirements.as_ref().unwrap().get_ref(), Path::new("uv.lock"));
                assert_eq!(python.packages.len(), 7);
            } else {
                let dockerfile = text("dockerfiles/web.Dockerfile");
                assert!(dockerfile.contains("COPY pyproject.toml uv.lock ./\n"), "{dockerfile}");
                assert!(dockerfile.contains("uv export --frozen"), "{dockerfile}");
            }
            assert!(!text("dockerfiles/requirements.txt").contains("-r "));
            for pipeline in [".github/workflows/release.yml", ".gitlab-ci.yml", ".circleci/config.yml"] {
                assert!(text(pipeline).contains("uv export --frozen"), "{pipeline}");
            }
        }
    }

    #[test]
    fn what_is_python_can_be_parsed_and_what_is_secret_is_in_secret_files_only() {
        for answers in every_answer() {
            let files = written(&answers);
            for (path, text) in &files {
                if path.contains(".py") {
                    let parsed = ruff_python_parser::parse_module(text);
                    assert!(parsed.is_ok(), "{path}: {parsed:?}\n{text}");
                }
                // A line that is nothing but a tag leaves nothing.
                let is_djangos = path.ends_with(".html") || path.starts_with("thumbnails/");
                assert!(!text.contains("{%") || is_djangos, "{path}:\n{text}");
                assert!(!text.contains("\n\n\n\n"), "{path}:\n{text}");
            }
            let settings = &files["my_shop/settings.py"];
            let block = settings.find("# imgforge: begin.").expect("the block");
            assert!(settings.find("INSTALLED_APPS = [").is_some_and(|at| at < block), "{settings}");
            let password = files["secrets/postgres_password"].trim();
            assert_eq!(password.len(), 64);
            let holders =
                files.iter().filter(|(_, text)| text.contains(password)).map(|(path, _)| path.as_str());
            assert_eq!(
                holders.collect::<Vec<_>>(),
                ["secrets/postgres_password", "secrets/server_settings.py.my-shop"]
            );
        }
    }
}
