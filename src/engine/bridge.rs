//! Between blocking code that reads or writes a tar and the streams of a connection: a few chunks wait in between, never all.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

/// How large a chunk is.
const CHUNK: usize = 128 * 1024;
/// How many chunks wait.
const WAITING: usize = 8;

/// A writer for blocking code. What is written comes out of the stream.
pub(super) struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
}

/// A writer, and the stream that gives what is written to it.
pub(super) fn chunks() -> (Chunks, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    (Chunks { sender, chunk: BytesMut::with_capacity(CHUNK) }, stream)
}

impl Chunks {
    /// Ends the stream with an error, so that what came out of it does not look finished. Nobody listening is fine too.
    pub(super) fn fail(&self, why: &str) {
        let _ = self.sender.blocking_send(Err(io::Error::other(why.to_owned())));
    }
}

impl Write for Chunks {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(buffer);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = self.chunk.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A reader for blocking code, of what a stream gives.
pub(super) struct Incoming {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

/// Reads `stream` in the background, a few chunks ahead of whoever reads the result.
pub(super) fn incoming(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Incoming {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(chunk) = stream.next().await {
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
    });
    Incoming { receiver, chunk: Bytes::new() }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
