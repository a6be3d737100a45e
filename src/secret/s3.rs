//! A secret store that is a bucket: `s3://BUCKET[/prefix]`.
//!
//! Invariant: a value goes in as a body of unknown kind and comes out as a stream, which nothing of the SDK can print,
//! where bodies of plain bytes have a `Debug` that shows them. At trace level the SDK still prints digests of values
//! (ETag, checksums), enough to check a guess at a short secret: cli keeps its targets silent below info.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime, SdkBody};
use aws_sdk_s3::types::BucketVersioningStatus;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use sha2::{Digest as _, Sha256};

use async_trait::async_trait;

use super::pinned::SALT_OBJECT;
use super::{Listed, Object, ObjectVersion, Secret, SecretStore, Version};
use crate::error::{Error, Result};

mod failure;

use failure::Call;

/// How often a create is tried again that lost against another write in flight.
const CONFLICTS: usize = 5;

/// A bucket, or all below a prefix in it.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
}

impl S3Store {
    /// The store in `bucket`, below `prefix` (empty for none).
    pub fn new(config: &SdkConfig, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        // A custom endpoint (moto, MinIO, a company's store) seldom has a host name for every bucket.
        let custom = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(custom).build();
        S3Store { client: Client::from_conf(config), bucket: bucket.into(), prefix: prefix.into() }
    }

    fn key(&self, object: &str) -> Result<String> {
        if object.is_empty() || object.starts_with('/') || object.ends_with('/') {
            return Err(Error::config(format!("{object:?} cannot name a secret file"))
                .help("a name is a path inside the store, without / at its ends"));
        }
        Ok(if self.prefix.is_empty() { object.to_owned() } else { format!("{}/{object}", self.prefix) })
    }

    /// The prefix of every key in this store.
    fn below(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
    }

    fn call<'c>(&'c self, verb: &'static str, action: &'static str, key: Option<&'c str>) -> Call<'c> {
        Call { verb, action, bucket: &self.bucket, key }
    }

    fn put_request(&self, key: &str, value: &Secret) -> PutObjectFluentBuilder {
        let bytes = Bytes::copy_from_slice(value.expose());
        let sum = BASE64_STANDARD.encode(Sha256::digest(&bytes));
        let body = SdkBody::retryable(move || SdkBody::from_body_1_x(Full::new(bytes.clone())));
        // Encryption at rest is the bucket's own default: SSE-S3, or the key its owner chose.
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_length(value.len().try_into().unwrap_or(i64::MAX))
            .checksum_sha256(sum)
            .body(ByteStream::new(body))
    }
}

#[async_trait]
impl SecretStore for S3Store {
    fn describe(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    async fn get(&self, object: &str, version: Option<&Version>) -> Result<Option<Object>> {
        let key = self.key(object)?;
        let action = if version.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
        let call = self.call("read", action, Some(&key));
        let request = self.client.get_object().bucket(&self.bucket).key(&key);
        let answer = match request.set_version_id(version.map(|version| version.0.clone())).send().await {
            Ok(answer) => answer,
            Err(error) => {
                return match (error.code(), version) {
                    (Some("NoSuchKey"), None) => Ok(None),
                    // 405 is what a delete marker's own version gives; 400 a malformed one.
                    (
                        Some("NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed" | "InvalidArgument"),
                        Some(version),
                    ) => Err(Error::refused(format!("{} has no version {version}", call.subject()))
                        .help("imgforge secrets versions NAME lists those that are there")),
                    _ => Err(call.failure(error)),
                };
            }
        };
        let version = answer.version_id().and_then(named_version);
        let body = answer.body.collect().await.map_err(|error| {
            Error::failed(format!("{} broke off while it was read", call.subject()))
                .help("run the same command again")
                .because(error)
        })?;
        Ok(Some(Object { value: Secret::new(body.to_vec()), version }))
    }

    async fn put(&self, object: &str, value: &Secret) -> Result<Option<Version>> {
        let key = self.key(object)?;
        let sent = self.put_request(&key, value).send().await;
        let answer = sent.map_err(|error| self.call("write", "s3:PutObject", Some(&key)).failure(error))?;
        Ok(answer.version_id().and_then(named_version))
    }

    async fn create(&self, object: &str, value: &Secret) -> Result<bool> {
        let key = self.key(object)?;
        let mut tries = CONFLICTS;
        loop {
            // Conditional writes: If-None-Match gives 412 when there is an object, and 409 when another such write is
            // in flight, which may yet fail (Amazon S3 user guide, "Add preconditions to S3 operations").
            let Err(error) = self.put_request(&key, value).if_none_match("*").send().await else {
                return Ok(true);
            };
            match error.code() {
                Some("PreconditionFailed") => return Ok(false),
                Some("ConditionalRequestConflict") if tries > 0 => tries -= 1,
                _ => return Err(self.call("write", "s3:PutObject", Some(&key)).failure(error)),
            }
        }
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        let below = self.below();
        let mut listed = Vec::new();
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&below);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.call("list", "s3:ListBucket", None).failure(error))?;
            for object in page.contents() {
                let Some(name) = object.key().and_then(|key| key.strip_prefix(&below)) else { continue };
                // Consoles make empty objects that end in / and show them as folders.
                if name.is_empty() || name.ends_with('/') || name == SALT_OBJECT {
                    continue;
                }
                let size = object.size().unwrap_or_default().try_into().unwrap_or_default();
                let modified = object.last_modified().and_then(rfc3339);
                listed.push(Listed { object: name.to_owned(), size, modified });
            }
        }
        listed.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(listed)
    }

    async fn versions(&self, object: &str) -> Result<Vec<ObjectVersion>> {
        let key = self.key(object)?;
        let mut found = Vec::new();
        let (mut next_key, mut next_version) = (None, None);
        loop {
            let page = self
                .client
                .list_object_versions()
                .bucket(&self.bucket)
                .prefix(&key)
                .set_key_marker(next_key)
                .set_version_id_marker(next_version)
                .send()
                .await
                .map_err(|error| {
                    self.call("list the versions of", "s3:ListBucketVersions", Some(&key)).failure(error)
                })?;
            // The prefix also finds longer names.
            for version in page.versions().iter().filter(|version| version.key() == Some(&key)) {
                let Some(name) = version.version_id().and_then(named_version) else { continue };
                found.push(ObjectVersion {
                    version: name,
                    size: version.size().unwrap_or_default().try_into().unwrap_or_default(),
                    modified: version.last_modified().and_then(rfc3339),
                    latest: version.is_latest().unwrap_or_default(),
                });
            }
            if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
                return Ok(found);
            }
            next_key = page.next_key_marker;
            next_version = page.next_version_id_marker;
        }
    }

    async fn problems(&self) -> Result<Vec<String>> {
        let bucket = &self.bucket;
        let mut problems = Vec::new();
        match self.client.get_bucket_versioning().bucket(bucket).send().await {
            Ok(answer) if answer.status() == Some(&BucketVersioningStatus::Enabled) => {}
            Ok(_) => problems.push(format!(
                "{bucket} keeps no versions, so nobody can go back to an earlier secret: aws s3api \
                 put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled"
            )),
            Err(error) => {
                let call = self.call("look at", "s3:GetBucketVersioning", None);
                problems.push(call.cannot_tell("whether it keeps versions", error)?);
            }
        }
        let block = self.client.get_public_access_block().bucket(bucket).send().await;
        let blocked = match block {
            Ok(answer) => answer.public_access_block_configuration().is_some_and(|block| {
                [
                    block.block_public_acls(),
                    block.ignore_public_acls(),
                    block.block_public_policy(),
                    block.restrict_public_buckets(),
                ]
                .iter()
                .all(|on| *on == Some(true))
            }),
            Err(error) if error.code() == Some("NoSuchPublicAccessBlockConfiguration") => false,
            Err(error) => {
                let call = self.call("look at", "s3:GetBucketPublicAccessBlock", None);
                problems.push(call.cannot_tell("whether public access is blocked", error)?);
                true
            }
        };
        if !blocked {
            problems.push(format!(
                "{bucket} does not block public access: aws s3api put-public-access-block --bucket {bucket} \
                 --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,\
                 BlockPublicPolicy=true,RestrictPublicBuckets=true"
            ));
        }
        Ok(problems)
    }
}

/// A bucket without versioning calls its only version `null`, which names nothing.
fn named_version(id: &str) -> Option<Version> {
    (!id.is_empty() && id != "null").then(|| Version(id.to_owned()))
}

fn rfc3339(time: &DateTime) -> Option<String> {
    Some(jiff::Timestamp::from_second(time.secs()).ok()?.to_string())
}
