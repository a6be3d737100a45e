//! What a failed call to S3 means, and what to do about it.
//!
//! Nothing of the SDK's error goes along but its code and message: its `Debug` holds the whole answer.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use crate::error::{Error, Result};

/// A call to S3, in words.
pub(super) struct Call<'c> {
    /// `read`
    pub(super) verb: &'static str,
    /// The IAM action it needs.
    pub(super) action: &'static str,
    /// The bucket.
    pub(super) bucket: &'c str,
    /// The object's whole key; none when it is about the bucket.
    pub(super) key: Option<&'c str>,
}

impl Call<'_> {
    /// `s3://bucket/key`
    pub(super) fn subject(&self) -> String {
        match self.key {
            Some(key) => format!("s3://{}/{key}", self.bucket),
            None => format!("s3://{}", self.bucket),
        }
    }

    fn arn(&self) -> String {
        match self.key {
            // Versions are listed by bucket.
            Some(key) if self.action != "s3:ListBucketVersions" => {
                format!("arn:aws:s3:::{}/{key}", self.bucket)
            }
            _ => format!("arn:aws:s3:::{}", self.bucket),
        }
    }

    /// The error for people.
    pub(super) fn failure<E, R>(&self, error: SdkError<E, R>) -> Error
    where
        E: StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        match &error {
            SdkError::ServiceError(answer) => self.answered(answer.err()),
            _ => self.unanswered(&error),
        }
    }

    /// For `doctor`: what could not be found out, where only a permission is missing.
    pub(super) fn cannot_tell<E, R>(&self, what: &str, error: SdkError<E, R>) -> Result<String>
    where
        E: StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let why = match (&error, error.code()) {
            (_, Some("AccessDenied")) => format!("that needs {}", self.action),
            // Other makes of S3 differ here, as in the name of the answer's root element.
            (SdkError::ServiceError(_), None) => "its answer is not S3's".to_owned(),
            _ => return Err(self.failure(error)),
        };
        Ok(format!("cannot tell {what} of {}: {why}", self.bucket))
    }

    /// S3 said no (Amazon S3 API reference, "Error responses").
    fn answered<E: ProvideErrorMetadata + RequestId>(&self, error: &E) -> Error {
        let (subject, bucket, verb) = (self.subject(), self.bucket, self.verb);
        let refused = |why: &str| Error::refused(format!("cannot {verb} {subject}: {why}"));
        let failed = |why: &str| Error::failed(format!("cannot {verb} {subject}: {why}"));
        let Some(code) = error.code() else {
            return failed("the answer is not S3's").help("check AWS_ENDPOINT_URL, and proxies on the way");
        };
        let told = match code {
            "AccessDenied" | "AllAccessDisabled" | "Forbidden" => refused("access denied").help(format!(
                "allow {} on {} to the identity of aws sts get-caller-identity",
                self.action,
                self.arn()
            )),
            "NoSuchBucket" => refused(&format!("there is no bucket {bucket}"))
                .help("check [secrets] store in imgforge.toml, and the variables in it"),
            "InvalidBucketName" => refused(&format!("{bucket:?} cannot be a bucket's name"))
                .help("check [secrets] store in imgforge.toml, and the variables in it"),
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => refused("AWS does not know these credentials")
                .help("check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile"),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken" => {
                refused("the AWS session has ended").help("log in again, as with aws sso login")
            }
            "RequestTimeTooSkewed" | "RequestExpired" => refused("this machine's clock is wrong").help(
                "set it, as with timedatectl set-ntp true: AWS takes no request that is 15 minutes off",
            ),
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                refused("the bucket is in another region").help(format!(
                    "set AWS_DEFAULT_REGION to what aws s3api get-bucket-location --bucket {bucket} tells"
                ))
            }
            "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" => {
                failed("S3 could not answer just now").help("run the same command again")
            }
            _ => failed("S3 refused"),
        };
        let message = error.message().unwrap_or("no message");
        let id = error.request_id().map(|id| format!(" (request {id})")).unwrap_or_default();
        told.because(format!("{code}: {message}{id}"))
    }

    /// No answer of S3: the credentials, the region, the network.
    fn unanswered<E, R>(&self, error: &SdkError<E, R>) -> Error
    where
        E: StdError + 'static,
        R: std::fmt::Debug + 'static,
    {
        let (subject, verb) = (self.subject(), self.verb);
        let mut chain = Vec::new();
        let mut credentials = false;
        let mut next = error.source();
        while let Some(cause) = next {
            credentials |= cause.is::<CredentialsError>();
            chain.push(cause.to_string());
            next = cause.source();
        }
        chain.dedup();
        let cause = chain.join(": ");
        let told = if credentials || cause.contains("credentials") {
            Error::refused(format!("cannot {verb} {subject}: no AWS credentials"))
                .help("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run aws sso login")
        } else if cause.to_lowercase().contains("region") {
            Error::refused(format!("cannot {verb} {subject}: no AWS region"))
                .help("set AWS_DEFAULT_REGION (or AWS_REGION) to the bucket's region")
        } else {
            Error::failed(format!("cannot {verb} {subject}: S3 does not answer"))
                .help("check the network, the proxy, and AWS_ENDPOINT_URL where it is set")
        };
        told.because(cause)
    }
}
