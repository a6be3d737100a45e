//! What S3 says when it says no, or nothing. moto checks no permissions, so its answers come from a server that speaks
//! S3's errors.

use std::sync::{Arc, Mutex};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::SharedCredentialsProvider;
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use imgforge::error::Kind;
use imgforge::secret::SecretStore;
use imgforge::secret::pinned::{SaltPolicy, Wanted, read};
use imgforge::secret::s3::S3Store;

use crate::support::s3;

/// Serves on a free port until the test's runtime ends.
pub async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    endpoint
}

struct Case {
    code: &'static str,
    status: u16,
    kind: Kind,
    what: &'static str,
    help: &'static str,
}

const fn case(code: &'static str, status: u16, kind: Kind, what: &'static str, help: &'static str) -> Case {
    Case { code, status, kind, what, help }
}

/// Amazon S3 API reference, "Error responses".
const CASES: [Case; 9] = [
    case(
        "AccessDenied",
        403,
        Kind::Refused,
        "access denied",
        "allow s3:GetObject on arn:aws:s3:::accessdenied/p/settings.py",
    ),
    case("NoSuchBucket", 404, Kind::Refused, "there is no bucket nosuchbucket", "[secrets] store"),
    case("InvalidAccessKeyId", 403, Kind::Refused, "does not know these credentials", "AWS_ACCESS_KEY_ID"),
    case(
        "SignatureDoesNotMatch",
        403,
        Kind::Refused,
        "does not know these credentials",
        "AWS_SECRET_ACCESS_KEY",
    ),
    case("ExpiredToken", 400, Kind::Refused, "session has ended", "aws sso login"),
    case("RequestTimeTooSkewed", 403, Kind::Refused, "clock is wrong", "timedatectl"),
    case("PermanentRedirect", 301, Kind::Refused, "in another region", "AWS_DEFAULT_REGION"),
    case("AuthorizationHeaderMalformed", 400, Kind::Refused, "in another region", "get-bucket-location"),
    case("InvalidRequest", 400, Kind::Failed, "S3 refused", ""),
];

async fn error_named_by_the_bucket(Path((bucket, _)): Path<(String, String)>) -> impl IntoResponse {
    let case = CASES.iter().find(|case| case.code.to_ascii_lowercase() == bucket).unwrap();
    let xml = format!("<Error><Code>{}</Code><Message>said by S3</Message></Error>", case.code);
    (StatusCode::from_u16(case.status).unwrap(), [("x-amz-request-id", "R1")], xml)
}

#[tokio::test]
async fn every_refusal_of_s3_says_what_it_is_and_what_to_do() {
    let router = axum::Router::new().route("/{bucket}/{*key}", axum::routing::any(error_named_by_the_bucket));
    let config = s3::config(&serve(router).await).await;
    for case in CASES {
        let store = S3Store::new(&config, case.code.to_ascii_lowercase(), "p");
        let error = store.get("settings.py", None).await.unwrap_err();
        assert_eq!(error.kind(), case.kind, "{error:?}");
        assert!(error.what().contains(case.what), "{error:?}");
        assert!(
            error.what().contains(&format!("s3://{}/p/settings.py", case.code.to_lowercase())),
            "{error:?}"
        );
        assert!(error.help_text().unwrap_or_default().contains(case.help), "{error:?}");
        assert_eq!(error.causes(), [format!("{}: said by S3 (request R1)", case.code)]);
    }
}

#[tokio::test]
async fn a_denied_bucket_ends_the_run_before_anything_is_written() {
    let methods = Arc::new(Mutex::new(Vec::new()));
    let seen = methods.clone();
    let answer = move |method: Method, path: Path<(String, String)>| {
        seen.lock().unwrap().push(method);
        error_named_by_the_bucket(path)
    };
    let router = axum::Router::new().route("/{bucket}/{*key}", axum::routing::any(answer));
    let store = S3Store::new(&s3::config(&serve(router).await).await, "accessdenied", "");
    let wanted = Wanted { name: "s".into(), object: "s.py".into(), paths: vec![], version: None };
    let error = read(&store, &[wanted], SaltPolicy::DrawIfMissing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(
        error.help_text().unwrap().contains("s3:GetObject on arn:aws:s3:::accessdenied/s.py"),
        "{error:?}"
    );
}

async fn get_error(config: &SdkConfig) -> imgforge::error::Error {
    S3Store::new(config, "shop", "").get("settings.py", None).await.unwrap_err()
}

#[tokio::test]
async fn no_credentials_no_region_and_no_network_are_told_apart() {
    let unreachable = s3::config("http://127.0.0.1:1").await;
    let error = get_error(&unreachable).await;
    assert_eq!(error.kind(), Kind::Failed, "{error:?}");
    assert!(error.what().contains("S3 does not answer"), "{error:?}");
    assert!(!error.causes().is_empty(), "{error:?}");

    let nobody =
        ProfileFileCredentialsProvider::builder().profile_name("imgforge-has-no-such-profile").build();
    let nobody =
        unreachable.into_builder().credentials_provider(SharedCredentialsProvider::new(nobody)).build();
    let error = get_error(&nobody).await;
    assert_eq!(error.kind(), Kind::Refused, "{error:?}");
    assert!(error.what().contains("no AWS credentials"), "{error:?}");

    let nowhere = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    let error = get_error(&nowhere).await;
    assert_eq!(error.kind(), Kind::Refused, "{error:?}");
    assert!(error.help_text().unwrap().contains("AWS_DEFAULT_REGION"), "{error:?}");
}
