//! How a blob gets into a registry (distribution spec, "Pushing blobs"): small ones in one PUT, large ones as a stream
//! that goes on from where it was cut.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Body, Response};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use url::Url;

use super::Remote;
use super::retry::{Tries, is_passing, may_get_through, retry_after};
use super::session::{Answer, Call, not_reached, silent};
use crate::error::{Error, Result};
use crate::image::Descriptor;
use crate::image::reference::Repository;
use crate::progress::Task;
use crate::registry::auth::token::Scope;
use crate::registry::verify::{Verified, is_wrong_content};
use crate::registry::{BlobReader, Registry};

const OCTETS: &str = "application/octet-stream";
/// How much is read, hashed and handed on at a time.
const CHUNK: usize = 1024 * 1024;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// Where a blob's bytes come from.
pub(super) enum Source {
    Memory(Bytes),
    File(PathBuf),
    /// Another repository, of this registry or another one, when it could not be mounted from there.
    Registry(Repository),
}

/// One blob on its way.
pub(super) struct Upload<'u> {
    pub remote: &'u Remote,
    pub repository: &'u Repository,
    pub descriptor: &'u Descriptor,
    pub source: Source,
    pub meter: Meter<'u>,
}

/// Tells a task how far the upload is. Bytes that are sent twice are told once.
pub(super) struct Meter<'t> {
    task: Option<&'t Task>,
    told: AtomicU64,
}

impl<'t> Meter<'t> {
    pub fn new(task: Option<&'t Task>) -> Self {
        Meter { task, told: AtomicU64::new(0) }
    }

    fn reached(&self, position: u64) {
        let told = self.told.fetch_max(position, Ordering::Relaxed);
        if let (Some(task), true) = (self.task, position > told) {
            task.advance(position - told);
        }
    }
}

/// How a PATCH ended.
enum Patched {
    /// The registry has so many bytes, and this is where to go on.
    Upto(Url, u64),
    /// Something that may pass.
    Trouble { error: Error, asked: Option<Duration> },
}

impl Upload<'_> {
    /// Sends the blob. `opened` is an upload that a refused mount has begun.
    pub async fn run(&self, opened: Option<Url>) -> Result<()> {
        match self.in_memory().await? {
            Some(bytes) => self.in_one_request(bytes, opened).await,
            None => self.streamed(opened).await,
        }
    }

    fn doing(&self) -> String {
        format!("upload the blob {}", self.descriptor.digest.short())
    }

    fn scopes(&self) -> Vec<Scope> {
        self.remote.scopes(self.repository)
    }

    fn call(&self, method: Method, url: Url) -> Call<'_> {
        Call::new(method, url, &self.repository.host, self.scopes())
    }

    async fn refusal(&self, answer: &Answer) -> Error {
        self.remote.session.refusal(answer, self.repository, &self.doing()).await
    }

    async fn is_there(&self) -> bool {
        self.remote.has_blob(self.repository, &self.descriptor.digest).await.unwrap_or(false)
    }

    /// The whole blob, checked, when it is small enough to be sent in one request.
    async fn in_memory(&self) -> Result<Option<Bytes>> {
        if !matches!(self.source, Source::Memory(_)) && self.descriptor.size > self.remote.one_request_up_to {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(self.descriptor.size).unwrap_or_default());
        let mut reader = self.open().await?;
        reader.read_to_end(&mut bytes).await.map_err(|error| self.unreadable(error))?;
        Ok(Some(bytes.into()))
    }

    /// Reads the blob from its beginning, checking it.
    async fn open(&self) -> Result<BlobReader> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        Ok(match &self.source {
            Source::Memory(bytes) => Box::new(Verified::new(io::Cursor::new(bytes.clone()), digest, size)),
            Source::File(path) => {
                let file = fs_err::tokio::File::open(path).await?;
                Box::new(Verified::new(file, digest, size))
            }
            Source::Registry(from) => self.remote.blob(from, self.descriptor).await?,
        })
    }

    /// Reads the blob from `offset` on. A file is not checked on the way: the registry takes no blob with another digest
    /// than it was promised, and hashing a large layer once more would cost more than reading it. Only a refusal has it
    /// looked at ([`Upload::whole`]).
    async fn open_at(&self, offset: u64) -> Result<BlobReader> {
        let Source::File(path) = &self.source else {
            let mut reader = self.open().await?;
            // What the registry has already is read again, for the digest.
            tokio::io::copy(&mut (&mut reader).take(offset), &mut tokio::io::sink())
                .await
                .map_err(|error| self.unreadable(error))?;
            return Ok(reader);
        };
        let mut file = fs_err::tokio::File::open(path).await?;
        if file.metadata().await?.len() != self.descriptor.size {
            return Err(self.unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        file.seek(io::SeekFrom::Start(offset)).await?;
        Ok(Box::new(file.take(self.descriptor.size - offset)))
    }

    /// Whether the file is still the blob.
    async fn whole(&self) -> Result<()> {
        if let Source::File(_) = self.source {
            let mut reader = self.open().await?;
            tokio::io::copy(&mut reader, &mut tokio::io::sink())
                .await
                .map_err(|error| self.unreadable(error))?;
        }
        Ok(())
    }

    fn unreadable(&self, error: io::Error) -> Error {
        match &self.source {
            Source::File(path)
                if is_wrong_content(&error) || error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Error::failed(format!("{} is no longer the layer that it was", path.display()))
                    .help(format!("remove {} and run the same command again", path.display()))
                    .because(error)
            }
            _ => Error::failed(format!("cannot {} to {}", self.doing(), self.repository)).because(error),
        }
    }

    async fn begin(&self) -> Result<Url> {
        let url = self.remote.url(self.repository, "blobs/uploads/")?;
        let answer = self.remote.session.exchange(&self.call(Method::POST, url)).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(&answer).await);
        }
        answer.location().ok_or_else(|| {
            let host = &self.repository.host;
            Error::failed(format!("the registry {host} begins an upload without saying where to send it"))
        })
    }

    async fn in_one_request(&self, bytes: Bytes, mut opened: Option<Url>) -> Result<()> {
        let mut tries = Tries::new(&self.remote.session.retry);
        loop {
            let location = match opened.take() {
                Some(location) => location,
                None => self.begin().await?,
            };
            // One PUT with everything in it has no Content-Range.
            let call = self
                .call(Method::PUT, self.with_digest(location))
                .header(CONTENT_TYPE, OCTETS)?
                .body(bytes.clone());
            let answer = self.remote.session.exchange(&call).await?;
            if self.is_taken(&answer, &mut tries).await? {
                self.meter.reached(self.descriptor.size);
                return Ok(());
            }
        }
    }

    async fn streamed(&self, mut opened: Option<Url>) -> Result<()> {
        let mut tries = Tries::new(&self.remote.session.retry);
        loop {
            let mut location = match opened.take() {
                Some(location) => location,
                None => self.begin().await?,
            };
            let mut offset = 0;
            while offset < self.descriptor.size {
                match self.patch(&location, offset, &mut tries).await? {
                    Patched::Upto(next, position) if position > offset => {
                        (location, offset) = (next, position);
                    }
                    Patched::Upto(..) => {
                        let host = &self.repository.host;
                        return Err(Error::failed(format!("the registry {host} takes no bytes")));
                    }
                    Patched::Trouble { error, asked } => {
                        if !tries.again(asked).await {
                            return Err(error);
                        }
                        let before = offset;
                        (location, offset) = match self.position(&location).await {
                            Some(there) => there,
                            None => (self.begin().await?, 0),
                        };
                        if offset > before {
                            tries.progressed();
                        }
                    }
                }
            }
            self.meter.reached(offset);
            let call = self.call(Method::PUT, self.with_digest(location));
            let answer = self.remote.session.exchange(&call).await?;
            if self.is_taken(&answer, &mut tries).await? {
                return Ok(());
            }
        }
    }

    /// Whether the closing PUT made it. False when the upload is gone and another one should be begun.
    async fn is_taken(&self, answer: &Answer, tries: &mut Tries<'_>) -> Result<bool> {
        if answer.status.is_success() {
            return self
                .remote
                .check_answered(answer, self.descriptor.digest, self.repository)
                .map(|()| true);
        }
        // The answer to an earlier try may have been lost after the registry had taken the blob.
        if self.is_there().await {
            return Ok(true);
        }
        let gone = matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE);
        if gone && tries.again(None).await {
            return Ok(false);
        }
        self.whole().await?;
        Err(self.refusal(answer).await)
    }

    /// Sends everything from `offset` on.
    async fn patch(&self, location: &Url, offset: u64, tries: &mut Tries<'_>) -> Result<Patched> {
        let (session, host, size) = (&self.remote.session, &self.repository.host, self.descriptor.size);
        let reader = self.open_at(offset).await?;
        let moved = Arc::new(AtomicU64::new(offset));
        let fault = Arc::new(Mutex::new(None));
        let (count, note) = (Arc::clone(&moved), Arc::clone(&fault));
        let stream = ReaderStream::with_capacity(reader, CHUNK)
            .inspect_ok(move |chunk| {
                count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            })
            .map_err(move |error| {
                let told = io::Error::from(error.kind());
                *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                told
            });
        let mut request = session
            .http
            .client(location)?
            .patch(location.clone())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, size - offset)
            .body(Body::wrap_stream(stream));
        if offset > 0 {
            request = request.header(CONTENT_RANGE, format!("{offset}-{}", size - 1));
        }
        let login = session.authorization(location, host, &self.scopes(), None).await?;
        if let Some(header) = &login {
            request = request.header(AUTHORIZATION, header);
        }
        let send = async || watch(request.send(), &moved, &self.meter, session.retry.patience).await;
        let sent = session.gates.of(location).pass(tries, &session.retry, send).await;
        let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = fault {
            let passing = matches!(self.source, Source::Registry(_)) && !is_wrong_content(&error);
            let error = self.unreadable(error);
            return if passing { Ok(Patched::Trouble { error, asked: None }) } else { Err(error) };
        }
        match sent {
            None => Ok(Patched::Trouble { error: silent(host), asked: None }),
            Some(Err(error)) => {
                let passing = may_get_through(&error);
                let error = not_reached(host, error);
                if passing { Ok(Patched::Trouble { error, asked: None }) } else { Err(error) }
            }
            Some(Ok(response)) => self.patched(response, location, login.as_ref()).await,
        }
    }

    async fn patched(
        &self,
        response: Response,
        location: &Url,
        login: Option<&HeaderValue>,
    ) -> Result<Patched> {
        let asked = retry_after(response.headers());
        let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        if unauthorized {
            // The token ended on the way: the next try has a new one.
            let (session, host) = (&self.remote.session, &self.repository.host);
            session.challenged(&response, host, &self.scopes(), login).await;
        }
        let answer = match self.remote.session.read(response, location.clone()).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Patched::Trouble { error, asked: None }),
        };
        // ECR answers 201 here, the specification says 202.
        if answer.status.is_success() {
            let position = answer.header("range").and_then(end_of_range).unwrap_or(self.descriptor.size);
            return Ok(Patched::Upto(answer.location().unwrap_or_else(|| location.clone()), position));
        }
        let error = self.refusal(&answer).await;
        let gone = matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE);
        if unauthorized || gone || is_passing(answer.status) {
            return Ok(Patched::Trouble { error, asked });
        }
        Err(error)
    }

    /// Asks how much of an upload is there; `None` when the registry does not know it any more.
    async fn position(&self, location: &Url) -> Option<(Url, u64)> {
        let answer = self.remote.session.exchange(&self.call(Method::GET, location.clone())).await.ok()?;
        if !answer.status.is_success() {
            return None;
        }
        let position = end_of_range(answer.header("range")?)?;
        let next = answer.location().unwrap_or_else(|| location.clone());
        (position <= self.descriptor.size).then_some((next, position))
    }

    fn with_digest(&self, mut location: Url) -> Url {
        location.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        location
    }
}

/// How many bytes `0-N` means. Registries also write `0-0` for none; no blob that is streamed has one byte.
fn end_of_range(range: &str) -> Option<u64> {
    let end: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.trim().parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}

/// Waits for `future` and tells the meter; `None` when nothing has moved for too long.
async fn watch<F: Future>(
    future: F,
    moved: &AtomicU64,
    meter: &Meter<'_>,
    patience: Duration,
) -> Option<F::Output> {
    tokio::pin!(future);
    let mut last = moved.load(Ordering::Relaxed);
    let mut since = Instant::now();
    loop {
        let output = tokio::time::timeout(TICK, &mut future).await;
        let now = moved.load(Ordering::Relaxed);
        meter.reached(now);
        if let Ok(output) = output {
            return Some(output);
        }
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > patience {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tell_how_many_bytes_there_are() {
        for (range, want) in
            [("0-0", Some(0)), ("0-9", Some(10)), ("bytes=0-9", Some(10)), ("5-9", None), ("x", None)]
        {
            assert_eq!(end_of_range(range), want, "{range}");
        }
    }
}
