//! `imgforge inspect`: what an image is made of.

use clap::Args as ClapArgs;

use super::result;
use super::session::Session;
use crate::backends;
use crate::base::platform;
use crate::error::Result;
use crate::image::inspect;

/// Show an image's layers, its secret layer and which secret versions are in it
#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  imgforge inspect web                    the image of this commit in [registry]\n  \
    imgforge inspect docker.io/user/shop-web:1.2\n  imgforge inspect oci:.imgforge/images/web@sha256:…"
)]
pub struct Args {
    /// An image's name in imgforge.toml, a reference, or oci:PATH[:TAG|@DIGEST]
    image: String,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "OS/ARCH", default_value_t = platform::here())]
    platform: String,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let target =
        backends::image_target(&args.image, || session.config(), &super::session::environment_variable)
            .await?;
    let inspected = inspect::inspect(&target.read(&args.platform).await?)?;
    result::print(session.output(), "inspect", &inspected, &inspected)
}
