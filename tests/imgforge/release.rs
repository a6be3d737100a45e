//! The whole pipeline in the production environment, with the real program: secrets in S3, images in ECR or in a registry
//! with a login, a service on ECS.

use serde_json::Value;

mod failing;
mod logins;
mod parts;
mod several;
mod whole;

/// The one image of a release: where it is, by digest.
fn reference(release: &Value) -> String {
    release["images"][0]["reference"].as_str().unwrap().to_owned()
}
