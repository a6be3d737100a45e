//! Between tar, which blocks, and streams of the network, which do not: bytes go through a short queue to or from a thread
//! that may wait.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Result;

/// How much is sent at a time.
pub(super) const CHUNK: usize = 128 * 1024;
/// How many chunks may wait.
const WAITING: usize = 8;

/// Runs `write` on a thread of its own and gives what it writes. The handle tells, better than the broken stream could,
/// why there is no more; when nobody listened to the end there is nothing to tell.
pub(super) fn written<W>(
    write: W,
) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, JoinHandle<Result<()>>)
where
    W: FnOnce(&mut Writer) -> Result<()> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Writer { sender: sender.clone(), chunk: BytesMut::with_capacity(CHUNK) };
        let written = write(&mut out).and_then(|()| Ok(out.flush()?));
        // Whoever stopped listening has a reason, and tells it.
        if sender.is_closed() {
            return Ok(());
        }
        if written.is_err() {
            // The request must not look finished.
            let _ = sender.blocking_send(Err(io::Error::other("what was to be sent could not be read")));
        }
        written
    });
    (futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)), writing)
}

/// Runs `read` on a thread of its own, over what `stream` gives.
pub fn read<T, E>(
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    read: impl FnOnce(Reader) -> T + Send + 'static,
) -> JoinHandle<T>
where
    T: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(chunk) = stream.next().await {
            if sender.send(chunk.map_err(io::Error::other)).await.is_err() {
                break;
            }
        }
    });
    tokio::task::spawn_blocking(move || read(Reader { receiver, chunk: Bytes::new() }))
}

/// Gathers what is written and sends it.
pub(super) struct Writer {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
}

impl Write for Writer {
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

/// Reads what comes.
pub struct Reader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let read = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
