//! A package index of one's own, whose login comes from a build secret.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::python::project;
use crate::support::docker::unique;
use crate::support::tiny::{files, holds};

/// A wheel of the package `house`, made with the standard library's zip.
fn wheel() -> Vec<u8> {
    let script = r#"
import io, sys, zipfile
wheel = io.BytesIO()
with zipfile.ZipFile(wheel, "w") as archive:
    archive.writestr("house.py", "RULES = True\n")
    archive.writestr("house-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: house\nVersion: 1.0\n")
    archive.writestr("house-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    archive.writestr("house-1.0.dist-info/RECORD", "house.py,,\nhouse-1.0.dist-info/METADATA,,\nhouse-1.0.dist-info/WHEEL,,\nhouse-1.0.dist-info/RECORD,,\n")
sys.stdout.buffer.write(wheel.getvalue())
"#;
    Command::new("python3").args(["-c", script]).output().unwrap().stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_a_login_is_asked_and_the_login_is_in_no_place_afterwards() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, wheel) = (Arc::clone(&seen), wheel());
    let app = Router::new().fallback(move |request: Request| {
        let login = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        told.lock().unwrap().push(login.clone());
        let path = request.uri().path().to_owned();
        let wheel = wheel.clone();
        async move {
            if login.is_none() {
                return (http::StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"x\"")])
                    .into_response();
            }
            match path.as_str() {
                "/simple/house/" => {
                    Html("<a href=\"/house-1.0-py3-none-any.whl\">house-1.0-py3-none-any.whl</a>")
                        .into_response()
                }
                "/house-1.0-py3-none-any.whl" => wheel.into_response(),
                _ => http::StatusCode::NOT_FOUND.into_response(),
            }
        }
    });
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let password = unique("password");
    let direct = project("[images.web.python]\npackages = [\"house==1.0\"]\n").await;
    direct.replace("[build.secrets]", "[build.secrets]\npip_conf = \"env:PIP_CONF\"");
    let conf = format!("[global]\nindex-url = http://me:{password}@127.0.0.1:{port}/simple\n");
    let cache = tempfile::tempdir().unwrap();
    let program = direct
        .program()
        .with("PIP_CONF", &conf)
        .with("RUST_LOG", "trace")
        .with("NO_PROXY", "127.0.0.1")
        .with("UV_CACHE_DIR", cache.path().to_str().unwrap());
    let ended = program.run(&["push", "--output", "json"]).ok();
    let login = format!("Basic {}", BASE64_STANDARD.encode(format!("me:{password}")));
    assert!(seen.lock().unwrap().contains(&Some(login)));
    let pushed = crate::support::direct::Pushed::of(&direct.path(), &ended.result());
    assert_eq!(pushed.layers[1]["opt/site/house.py"].content, b"RULES = True\n");
    assert!(!ended.stdout.contains(&password) && !ended.stderr.contains(&password));
    let holding = files(&direct.path()).into_iter().find(|(_, bytes)| holds(bytes, &password));
    assert_eq!(holding.map(|(path, _)| path), None);

    // A package that is not there: what uv says of the index has no login in it.
    direct.replace("house==1.0", "house==2.0");
    let failed = program.run(&["push"]).failed(1, "cannot install the packages of image web");
    assert!(!failed.stdout.contains(&password) && !failed.stderr.contains(&password));
}
