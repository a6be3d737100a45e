//! `imgforge init`: what a Django project needs, written into it.

use std::io::IsTerminal;
use std::path::Path;

use clap::Args as ClapArgs;
use console::{Style, style};
use dialoguer::theme::ColorfulTheme;
use dialoguer::{Confirm, Input, Select};
use serde_json::json;

use super::report::Output;
use super::result;
use super::session::Session;
use crate::config::FILE;
use crate::error::{Error, Kind, Result};
use crate::template::change::{Change, Kind as ChangeKind};
use crate::template::compiled::without_wheels;
use crate::template::site::Site;
use crate::template::{self, Answers, Bases, Ci, EngineChoice, Registry, Server};

/// Write what a Django project needs to be built, released and run into the project's folder
///
/// In a folder without a Django project one is written, too. A file that is there is never replaced before its
/// difference was shown. Running it again later offers what a newer imgforge would write.
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  imgforge init                                   asks\n  \
    imgforge init --yes --server uwsgi              takes every default but one\n  \
    imgforge init --dry-run                         shows what it would write")]
pub struct Args {
    /// The project's name: images, buckets and services are called after it
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// The settings module that servers use
    #[arg(long, value_name = "MODULE")]
    settings: Option<String>,
    /// What runs the site
    #[arg(long, value_enum, value_name = "SERVER")]
    server: Option<Server>,
    /// How images are built
    #[arg(long, value_enum, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    /// Where bases come from
    #[arg(long, value_enum, value_name = "BASES")]
    bases: Option<Bases>,
    /// Push to Docker Hub, below this user or organization, instead of ECR
    #[arg(long, value_name = "USER")]
    docker_hub: Option<String>,
    /// Write a pipeline for this service; may be given several times
    #[arg(long, value_enum, value_name = "SERVICE")]
    ci: Vec<Ci>,
    /// Ask nothing: take defaults for what is not said, and leave files alone that say something else
    #[arg(long, short)]
    yes: bool,
    /// With --yes: replace such files, too
    #[arg(long, requires = "yes")]
    replace: bool,
    /// Show what would be written, and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let root = std::path::absolute(session.directory())?;
    fs_err::create_dir_all(&root)?;
    let asks = !args.yes && !args.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::config("init asks questions, and there is no terminal to ask on")
            .help("imgforge init --yes takes the defaults; imgforge init --help names what can be said"));
    }
    // Not on this thread: it has Ctrl-C to watch.
    let output = session.output();
    let work = tokio::task::spawn_blocking(move || init(&root, &args, output));
    work.await.expect("init does not panic")
}

fn init(root: &Path, args: &Args, output: Output) -> Result<()> {
    let ask = Ask { silent: args.yes || args.dry_run };
    let found = Site::read(root, args.settings.as_deref())?;
    let answers = answers(root, args, found.as_ref(), &ask)?;
    let site = found.unwrap_or_else(|| Site::new(&answers.project));
    let changes = template::changes(root, &site, &answers)?;
    let mut told = Vec::new();
    let mut summary = String::new();
    for change in &changes {
        if matches!(change.kind, ChangeKind::Extend | ChangeKind::Replace) {
            show(change);
        }
        let done = match (args.dry_run, change.kind) {
            (true, _) => "would be written",
            (false, ChangeKind::New | ChangeKind::Secret) => "written",
            (false, ChangeKind::Extend) => {
                if ask.agrees(change, true)? {
                    "changed"
                } else {
                    "left"
                }
            }
            (false, ChangeKind::Replace) => {
                if ask.agrees(change, args.replace)? {
                    "replaced"
                } else {
                    "left"
                }
            }
        };
        if !args.dry_run && done != "left" {
            change.apply(root)?;
        }
        summary.push_str(&format!("{:<16} {}\n", done, change.path.display()));
        told.push(json!({ "path": change.path, "kind": change.kind, "done": done }));
    }
    if changes.is_empty() {
        summary.push_str("everything is as init would write it\n");
    }
    // A Dockerfile compiles them.
    let without_wheels = match answers.engine {
        EngineChoice::Docker => Vec::new(),
        EngineChoice::Direct => without_wheels(&site.named),
    };
    if !without_wheels.is_empty() {
        summary.push_str(&format!("\n{}:\n  {}\n", site.requirements_file(), without_wheels.join("\n  ")));
    }
    let unfilled = template::unfilled(root, &site, &answers, &changes)?;
    if let Some(unfilled) = &unfilled {
        summary.push_str(&format!("\n{unfilled}\n"));
    }
    if !args.dry_run {
        summary.push_str(&next(&answers));
    }
    let value = json!({
        "project": answers.project, "settings": site.settings_module, "files": told,
        "unfilled": unfilled, "without_wheels": without_wheels,
    });
    result::print(output, "init", &value, summary)
}

fn next(answers: &Answers) -> String {
    let project = &answers.project;
    format!(
        "\nNext:\n  imgforge doctor     what is missing on this machine\n  \
         imgforge release    builds {project}, and starts it at http://127.0.0.1:8080\n\n\
         secrets/ has the passwords of the containers here: it stays out of Git, and so do they.\n"
    )
}

fn answers(root: &Path, args: &Args, site: Option<&Site>, ask: &Ask) -> Result<Answers> {
    let folder = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match site {
        Some(site) => ask.tell(&format!("a Django project; servers use {}", site.settings_module)),
        None => ask.tell("no manage.py here: a new Django project is written, too"),
    }
    let named = site.map(|site| site.package.replace('_', "-")).filter(|name| !name.is_empty());
    let project = match &args.project {
        Some(project) => project.clone(),
        None => ask.input("Name of the project", &earlier(root).or(named).unwrap_or(folder))?,
    };
    if template::project_name(&project) != project {
        return Err(Error::config(format!("{project:?} cannot be a project's name"))
            .help(format!("lower case letters, digits and dashes: {}", template::project_name(&project))));
    }
    if let (None, Some(why)) = (site, template::taken(&project)) {
        return Err(Error::config(format!("{project:?} cannot be a new project's name: {why}"))
            .help(format!("another one: --project my-{project}")));
    }
    let server = match args.server {
        Some(server) => server,
        None => {
            ask.select("What runs the site", &[("gunicorn", Server::Gunicorn), ("uWSGI", Server::Uwsgi)])?
        }
    };
    let engine = match args.engine {
        Some(engine) => engine,
        None => ask.select(
            "How images are built",
            &[
                ("with a Dockerfile, by a Docker daemon", EngineChoice::Docker),
                ("directly, without Dockerfile and daemon (packages need wheels)", EngineChoice::Direct),
            ],
        )?,
    };
    let bases = match args.bases {
        Some(bases) => bases,
        None => ask.select(
            "What images start from",
            &[
                ("the official images on Docker Hub", Bases::Hub),
                ("Debian packages: no registry needed, but mmdebstrap", Bases::Debian),
            ],
        )?,
    };
    let registry = match &args.docker_hub {
        Some(user) => Registry::Hub(user.clone()),
        None => Registry::Ecr,
    };
    let ci = match (args.ci.as_slice(), pipeline(root)) {
        ([], Some(found)) => vec![found],
        ([], None) => ask
            .select(
                "Where the pipeline runs",
                &[
                    ("nowhere yet", None),
                    ("GitHub", Some(Ci::Github)),
                    ("GitLab", Some(Ci::Gitlab)),
                    ("CircleCI", Some(Ci::Circleci)),
                ],
            )?
            .into_iter()
            .collect(),
        (named, _) => named.to_vec(),
    };
    Ok(Answers { project, server, engine, bases, registry, ci })
}

/// The service that runs pipelines for the place that the sources come from.
fn pipeline(root: &Path) -> Option<Ci> {
    if root.join(".circleci").is_dir() {
        return Some(Ci::Circleci);
    }
    let config = fs_err::read_to_string(root.join(".git/config")).ok()?;
    let mut remotes = config.lines().filter_map(|line| line.trim().strip_prefix("url = "));
    remotes.find_map(|remote| match remote {
        remote if remote.contains("github") => Some(Ci::Github),
        remote if remote.contains("gitlab") => Some(Ci::Gitlab),
        _ => None,
    })
}

/// The name that an imgforge.toml here has already.
fn earlier(root: &Path) -> Option<String> {
    let text = fs_err::read_to_string(root.join(FILE)).ok()?;
    let table: toml::Table = text.parse().ok()?;
    Some(table.get("project")?.as_str()?.to_owned())
}

/// Asks, or takes the first answer.
struct Ask {
    silent: bool,
}

impl Ask {
    fn tell(&self, words: &str) {
        if !self.silent {
            eprintln_line(words);
        }
    }

    fn input(&self, question: &str, default: &str) -> Result<String> {
        let default = template::project_name(default);
        if self.silent {
            return Ok(default);
        }
        let theme = ColorfulTheme::default();
        let input = Input::with_theme(&theme).with_prompt(question).default(default);
        input.interact_text().map_err(interrupted)
    }

    fn select<T: Copy>(&self, question: &str, choices: &[(&str, T)]) -> Result<T> {
        if self.silent {
            return Ok(choices[0].1);
        }
        let words = choices.iter().map(|(words, _)| *words);
        let theme = ColorfulTheme::default();
        let select = Select::with_theme(&theme).with_prompt(question).items(words).default(0);
        Ok(choices[select.interact().map_err(interrupted)?].1)
    }

    /// Whether a change of a file that is there, which was shown, may be made; without questions, `otherwise`.
    fn agrees(&self, change: &Change, otherwise: bool) -> Result<bool> {
        if self.silent {
            return Ok(otherwise);
        }
        let question = match change.kind {
            ChangeKind::Replace => format!("Replace {}", change.path.display()),
            _ => format!("Add this to {}", change.path.display()),
        };
        let theme = ColorfulTheme::default();
        let confirm =
            Confirm::with_theme(&theme).with_prompt(question).default(change.kind != ChangeKind::Replace);
        confirm.interact().map_err(interrupted)
    }
}

fn interrupted(error: dialoguer::Error) -> Error {
    Error::new(Kind::Failed, "init was interrupted; nothing after the last question was written")
        .because(error)
}

/// Shows a change as a diff, on stderr.
fn show(change: &Change) {
    eprintln_line(&style(format!("--- {}", change.path.display())).bold().for_stderr().to_string());
    for line in change.diff().lines() {
        let look = match line.as_bytes().first() {
            Some(b'+') => Style::new().green(),
            Some(b'-') => Style::new().red(),
            Some(b'@') => Style::new().cyan(),
            _ => Style::new(),
        };
        eprintln_line(&look.for_stderr().apply_to(line).to_string());
    }
}

/// There is nowhere else to say that stderr is closed.
fn eprintln_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
