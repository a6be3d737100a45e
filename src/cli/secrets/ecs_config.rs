//! `imgforge secrets ecs-config`: an ecs.config with a registry login, so that nobody edits JSON inside a shell variable.

use clap::Args as ClapArgs;
use serde_json::json;

use crate::backends;
use crate::cli::result;
use crate::cli::session::{Session, environment_variable};
use crate::error::{Error, Result};
use crate::image::reference::DOCKER_HUB;
use crate::secret::ecs_config::{self, RegistryLogin};

/// Write a Docker login into ecs.config and upload it
///
/// The login is taken from DOCKER_USER, DOCKER_PASS and DOCKER_EMAIL, or from what `docker login` stored. Lines that are in
/// ecs.config already stay.
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  docker login && imgforge secrets ecs-config -e production\n  \
    DOCKER_USER=… DOCKER_PASS=… imgforge secrets ecs-config -e production")]
pub struct Args {
    /// The registry that the login is for
    #[arg(long, value_name = "HOST", default_value = DOCKER_HUB)]
    registry: String,
    /// The account's e-mail address
    #[arg(long, value_name = "ADDRESS", env = "DOCKER_EMAIL", hide_env_values = true)]
    email: Option<String>,
    /// The secret file to write, a name in [secrets.files]
    #[arg(long, value_name = "NAME", default_value = "ecs_config")]
    name: String,
    /// Say what would be written, and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let config = session.config()?;
    let store = backends::store(&config).await?;
    let login = backends::docker_login(&args.registry, &environment_variable).await?.ok_or_else(|| {
        Error::refused(format!("there is no login for {}", args.registry))
            .help("set DOCKER_USER and DOCKER_PASS, or run `docker login` first")
    })?;
    if login.is_identity_token() {
        return Err(Error::refused(format!(
            "the login for {} is an identity token, which the ECS agent cannot use",
            args.registry
        ))
        .help("set DOCKER_USER and DOCKER_PASS (an access token of the account will do)"));
    }
    let object = super::get::object(&config, &args.name);
    let existing = store.get(&object, None).await?.map(|object| object.value);
    let who = format!("{} at {}", login.username, args.registry);
    let login = RegistryLogin { username: login.username, password: login.password, email: args.email };
    let written = ecs_config::write(&args.registry, &login, existing.as_ref(), &object)?;
    if args.dry_run {
        let human = format!("{object} in {} would get the login of {who}", store.describe());
        return result::print(
            session.output(),
            "ecs_config",
            &json!({ "object": object, "written": false }),
            human,
        );
    }
    let version = store.put(&object, &written).await?;
    let human = match &version {
        Some(version) => {
            format!("{object} in {} has the login of {who}, version {version}", store.describe())
        }
        None => format!("{object} in {} has the login of {who}", store.describe()),
    };
    let value = json!({ "object": object, "store": store.describe(), "version": version, "written": true });
    result::print(session.output(), "ecs_config", &value, human)
}
