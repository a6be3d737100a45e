//! `RUST_LOG` for tracing on stderr.

use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Targets that write out bodies, hence secrets, at some level. They stay silent below `info` whatever RUST_LOG says
/// (contract 6).
const WITH_BODIES: [&str; 8] =
    ["aws_smithy", "aws_sdk", "aws_config", "aws_sigv4", "aws_runtime", "hyper", "h2", "bollard"];

/// Installs the subscriber when RUST_LOG is set.
pub fn install() {
    if std::env::var_os("RUST_LOG").is_none() {
        return;
    }
    let quiet = FilterFn::new(|metadata: &Metadata<'_>| {
        *metadata.level() <= tracing::Level::INFO
            || !WITH_BODIES.iter().any(|target| metadata.target().starts_with(target))
    });
    let filter = EnvFilter::from_default_env().and(quiet);
    let lines = fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(lines).init();
}
