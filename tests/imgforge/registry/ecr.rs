//! ECR: the control calls go to moto, image traffic to a registry with the login that moto hands out.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ecr::types::{ImageScanningConfiguration, ImageTagMutability};
use imgforge::image::Kind;
use imgforge::image::reference::Version;
use imgforge::progress::Reporter;
use imgforge::registry::Registry;
use imgforge::registry::auth::{LoginChain, LoginSource};
use imgforge::registry::ecr::{Ecr, EcrConfig, EcrLogins};
use imgforge::registry::push::push;
use imgforge::registry::remote::transport::Http;

use super::quick;
use crate::support::moto::{ACCOUNT, Moto, REGION};
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::sample_image;

fn settings(registry: Option<&str>) -> EcrConfig {
    EcrConfig {
        pattern: "{project}-{image}".into(),
        project: "shop".into(),
        registry: registry.map(Into::into),
        logins: LoginChain::none(),
        http: Http::new(),
        retry: quick(),
    }
}

#[tokio::test]
async fn a_missing_repository_is_made_with_immutable_tags_and_scans() {
    let (moto, server) = (Moto::start(), OciRegistry::basic("AWS", &format!("{ACCOUNT}-auth-token")));
    let aws = moto.config().await;
    let ecr = Ecr::connect(&aws, settings(Some(&server.host))).await.unwrap();
    assert_eq!(ecr.describe(), format!("ecr ({REGION})"));
    let repository = ecr.repository("web").unwrap();
    assert_eq!(repository.to_string(), format!("{}/shop-web", server.host));
    let folder = tempfile::tempdir().unwrap();
    let image = sample_image(Kind::Docker, folder.path(), &[100, 200]);
    let tags = ["1".parse().unwrap()];
    for _ in 0..2 {
        let pushed = push("web", &image, &ecr, &repository, &tags, &Reporter::silent()).await.unwrap();
        assert_eq!(pushed.reference.digest, Some(image.digest()));
    }
    assert_eq!(ecr.head(&repository, &Version::Tag(tags[0].clone())).await.unwrap(), Some(image.digest()));
    let client = aws_sdk_ecr::Client::new(&aws);
    let answer = client.describe_repositories().send().await.unwrap();
    let [made] = answer.repositories() else { panic!("{answer:?}") };
    assert_eq!(made.repository_name(), Some("shop-web"));
    assert_eq!(made.image_tag_mutability(), Some(&ImageTagMutability::Immutable));
    assert!(made.image_scanning_configuration().unwrap().scan_on_push());
    assert_eq!(ecr.problems(&repository).await.unwrap(), Vec::<String>::new());
    // What a daemon needs for the same repository.
    let login = ecr.login(&repository).await.unwrap().unwrap();
    assert_eq!(login.username, "AWS");
}

#[tokio::test]
async fn a_repository_with_movable_tags_is_a_problem_and_stays_as_it_is() {
    let moto = Moto::start();
    let aws = moto.config().await;
    let client = aws_sdk_ecr::Client::new(&aws);
    let scan = ImageScanningConfiguration::builder().scan_on_push(false).build();
    client
        .create_repository()
        .repository_name("shop-web")
        .image_tag_mutability(ImageTagMutability::Mutable)
        .image_scanning_configuration(scan)
        .send()
        .await
        .unwrap();
    let ecr = Ecr::connect(&aws, settings(None)).await.unwrap();
    let repository = ecr.repository("web").unwrap();
    assert_eq!(repository.host, format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"));
    ecr.prepare(&repository).await.unwrap();
    let problems = ecr.problems(&repository).await.unwrap();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("can be moved") && problems[1].contains("not scanned"), "{problems:?}");
    let answer = client.describe_repositories().send().await.unwrap();
    assert_eq!(answer.repositories()[0].image_tag_mutability(), Some(&ImageTagMutability::Mutable));
}

#[tokio::test]
async fn hosts_of_ecr_get_a_token_and_others_do_not() {
    let moto = Moto::start();
    let logins = EcrLogins::new(moto.config().await);
    let host = format!("{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com");
    let login = logins.find(&host).await.unwrap().unwrap();
    assert_eq!(login.username, "AWS");
    assert_eq!(login.password.expose(), format!("{ACCOUNT}-auth-token").as_bytes());
    assert!(logins.find("docker.io").await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let nowhere = aws_config::SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    let error = Ecr::connect(&nowhere, settings(None)).await.unwrap_err();
    assert!(error.what().contains("no AWS region"), "{error:?}");
    let moto = Moto::start();
    let anonymous = moto.config().await.into_builder();
    let anonymous = anonymous.credentials_provider(NoCredentials::shared()).build();
    let error = Ecr::connect(&anonymous, settings(None)).await.unwrap_err();
    assert_eq!(error.what(), "cannot get a login for ECR");
    assert!(error.help_text().unwrap().contains("AWS_ACCESS_KEY_ID"), "{error:?}");
    let down = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url("http://127.0.0.1:1")
        .region(Region::new(REGION))
        .credentials_provider(aws_credential_types::Credentials::new("a", "b", None, None, "tests"))
        .load()
        .await;
    let error = Ecr::connect(&down, settings(None)).await.unwrap_err();
    assert!(error.help_text().unwrap().contains("can this machine reach AWS"), "{error:?}");
}

/// What the SDK's chain says on a machine without any.
#[derive(Debug)]
struct NoCredentials;

impl NoCredentials {
    fn shared() -> aws_credential_types::provider::SharedCredentialsProvider {
        aws_credential_types::provider::SharedCredentialsProvider::new(NoCredentials)
    }
}

impl aws_credential_types::provider::ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::provider::error::CredentialsError;
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(CredentialsError::not_loaded(
            "no providers in chain provided credentials",
        )))
    }
}
