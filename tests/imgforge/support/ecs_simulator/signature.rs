//! SigV4, checked by hand as AWS describes it (IAM user guide, "Create a signed AWS API request").

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Whether the request is signed for this service with this secret.
pub fn check(
    headers: &HeaderMap,
    body: &[u8],
    service: &str,
    region: &str,
    secret: &str,
) -> Result<(), String> {
    let header = |name: &str| {
        let value = headers.get(name).ok_or_else(|| format!("no header {name}"))?;
        value.to_str().map_err(|_| format!("header {name} is not text"))
    };
    let authorization = header("authorization")?;
    let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("not signed with SigV4")?;
    let part = |name: &str| {
        let mut parts = parts.split(',').map(str::trim);
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or(format!("no {name}"))
    };
    let (_, scope) = part("Credential")?.split_once('/').ok_or("no scope")?;
    let time = header("x-amz-date")?;
    let day = time.get(..8).ok_or("no date")?;
    if scope != format!("{day}/{region}/{service}/aws4_request") {
        return Err(format!("scope {scope} is not of {service} in {region}"));
    }
    header("x-amz-security-token")?;
    let signed = part("SignedHeaders")?;
    for wanted in ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
        if !signed.split(';').any(|name| name == wanted) {
            return Err(format!("{wanted} is not signed"));
        }
    }
    let mut canonical = String::from("POST\n/\n\n");
    for name in signed.split(';') {
        canonical.push_str(&format!("{name}:{}\n", header(name)?.trim()));
    }
    canonical.push_str(&format!("\n{signed}\n{}", hex::encode(Sha256::digest(body))));
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, "aws4_request"] {
        key = hmac(&key, part);
    }
    match hex::encode(hmac(&key, &to_sign)) == part("Signature")? {
        true => Ok(()),
        false => Err("The request signature we calculated does not match the signature you provided.".into()),
    }
}

fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
