//! Buckets for tests, on a moto server or on whatever else speaks S3.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_s3::types::{BucketVersioningStatus, PublicAccessBlockConfiguration, VersioningConfiguration};

/// Settings that reach `endpoint` with made-up credentials, whatever the environment says.
pub async fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .load()
        .await
}

/// The SDK's own client, to set the scene with.
pub async fn client(endpoint: &str) -> Client {
    let config = config(endpoint).await;
    Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build())
}

/// A bucket without anything switched on.
pub async fn bare_bucket(endpoint: &str, name: &str) {
    client(endpoint).await.create_bucket().bucket(name).send().await.unwrap();
}

/// A bucket as secrets need it: versioned, and closed to the public.
pub async fn bucket(endpoint: &str, name: &str) {
    bare_bucket(endpoint, name).await;
    let client = client(endpoint).await;
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(name).versioning_configuration(versioning).send().await.unwrap();
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let request = client.put_public_access_block().bucket(name);
    request.public_access_block_configuration(block).send().await.unwrap();
}
