//! Bytes that are checked against their digest while they pass.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::digest::{Digest, Hashing};

/// Reads from `inner` what should be a blob of this digest and size. The read that would complete it fails instead when
/// the bytes are others, so nobody gets all of a wrong blob.
pub struct Verified<R> {
    inner: R,
    hash: Option<Hashing<io::Sink>>,
    seen: u64,
    want: Digest,
    size: u64,
}

impl<R> Verified<R> {
    /// Checks `inner`.
    pub fn new(inner: R, want: Digest, size: u64) -> Self {
        Verified { inner, hash: Some(Hashing::new(io::sink())), seen: 0, want, size }
    }

    fn take_in(&mut self, new: &[u8]) -> io::Result<()> {
        self.seen += new.len() as u64;
        if self.seen > self.size {
            return Err(self.wrong(format!("it is longer than {} bytes", self.size)));
        }
        if let Some(hash) = &mut self.hash {
            hash.write_all(new)?;
        }
        if self.seen == self.size
            && let Some(hash) = self.hash.take()
        {
            let (_, got, _) = hash.finish();
            if got != self.want {
                return Err(self.wrong(format!("its bytes have the digest {got}")));
            }
        }
        Ok(())
    }

    fn wrong(&self, why: String) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("this is not {}: {why}", self.want))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Verified<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let ended = buffer.filled().len() == before;
        if ended && self.seen < self.size {
            let why = format!("{} ends after {} of {} bytes", self.want, self.seen, self.size);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        let result = self.take_in(&buffer.filled()[before..]);
        if result.is_err() {
            buffer.set_filled(before);
        }
        Poll::Ready(result)
    }
}

/// Whether reading failed because the content is another one, so that reading again would not help.
pub fn is_wrong_content(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(bytes: &[u8], want: &[u8]) -> (io::Result<usize>, Vec<u8>) {
        let mut out = Vec::new();
        let mut reader = Verified::new(bytes, Digest::of(want), want.len() as u64);
        (reader.read_to_end(&mut out).await, out)
    }

    #[tokio::test]
    async fn the_right_bytes_pass() {
        for bytes in [&b""[..], b"abc"] {
            let (result, out) = read(bytes, bytes).await;
            assert_eq!((result.unwrap(), out.as_slice()), (bytes.len(), bytes));
        }
    }

    #[tokio::test]
    async fn wrong_short_and_long_bytes_do_not() {
        let (result, out) = read(b"abd", b"abc").await;
        assert!(is_wrong_content(&result.unwrap_err()));
        assert!(out.is_empty());
        assert!(is_wrong_content(&read(b"abcd", b"abc").await.0.unwrap_err()));
        assert_eq!(read(b"ab", b"abc").await.0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
