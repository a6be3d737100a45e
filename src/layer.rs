//! Makes layers: tar, both digests and gzip in one pass, compressed on every core.
//!
//! The blob is gzip in members of one size (RFC 1952, section 2.2: a file is a series of members), so that they can be made side
//! by side, and so that what comes out depends on what went in and not on how many cores there were or where writes were cut.
//!
//! Invariant: the encoder, its level and the members' size are pinned. Same tar → same blob, on any machine (contract 8).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use libdeflater::{CompressionLvl, Compressor};

use crate::digest::{DiffId, Digest, Hashing};
use crate::error::Result;

pub mod bake;
pub mod files;

/// The pinned level: twice as fast as the next one, and within a few per cent of the size that level 6 gives.
const LEVEL: i32 = 1;
/// How much of the tar is in one member.
const MEMBER: usize = 1 << 20;

/// What came out of a pass over a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// The tar's digest.
    pub diff_id: DiffId,
    /// The tar's size.
    pub uncompressed: u64,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
}

/// Takes a layer's tar and writes the blob. The digests can be asked for only by finishing it.
pub struct LayerWriter<W: Write> {
    tar: Hashing<Members<Hashing<W>>>,
}

impl<W: Write> LayerWriter<W> {
    /// Writes the blob to `out`.
    pub fn new(out: W) -> Self {
        LayerWriter {
            tar: Hashing::new(Members {
                out: Hashing::new(out),
                member: Vec::new(),
                written: 0,
                compressing: VecDeque::new(),
            }),
        }
    }

    /// Ends the blob.
    ///
    /// # Errors
    /// The writer's own.
    pub fn finish(self) -> io::Result<(W, Digests)> {
        let (members, diff_id, uncompressed) = self.tar.finish();
        let (out, digest, size) = members.finish()?.finish();
        Ok((out, Digests { diff_id: DiffId(diff_id), uncompressed, digest, size }))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tar.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        // What is gathered so far is no member yet.
        Ok(())
    }
}

/// Compresses a whole tar from `tar` to `out`.
///
/// # Errors
/// Those of reading and writing.
pub fn compress(mut tar: impl Read, out: impl Write) -> Result<Digests> {
    let mut writer = LayerWriter::new(out);
    io::copy(&mut tar, &mut writer)?;
    let (mut out, digests) = writer.finish()?;
    out.flush()?;
    Ok(digests)
}

/// Gathers writes into members and has them compressed, a few at a time, in order.
struct Members<W> {
    out: W,
    member: Vec<u8>,
    /// How many members were begun.
    written: usize,
    compressing: VecDeque<Receiver<Vec<u8>>>,
}

impl<W: Write> Members<W> {
    fn send(&mut self) -> io::Result<()> {
        let member = std::mem::replace(&mut self.member, Vec::with_capacity(MEMBER));
        let (sender, receiver) = sync_channel(1);
        self.written += 1;
        rayon::spawn(move || {
            // Nobody waits for it any more when writing has failed.
            let _ = sender.send(compressed(&member));
        });
        self.compressing.push_back(receiver);
        // How many may be compressing bounds the memory. Asked here, because asking starts the threads, which a layer of one
        // member, as the secret layer is, does without.
        while self.compressing.len() >= rayon::current_num_threads() * 2 {
            self.write_first()?;
        }
        Ok(())
    }

    fn write_first(&mut self) -> io::Result<()> {
        let Some(first) = self.compressing.pop_front() else { return Ok(()) };
        let member = first.recv().map_err(|_| io::Error::other("a member was not compressed"))?;
        self.out.write_all(&member)
    }

    fn finish(mut self) -> io::Result<W> {
        while !self.compressing.is_empty() {
            self.write_first()?;
        }
        // Here, without another thread: most layers are small. An empty tar has one member, too.
        if !self.member.is_empty() || self.written == 0 {
            self.out.write_all(&compressed(&self.member))?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let take = buffer.len().min(MEMBER - self.member.len());
        self.member.extend_from_slice(&buffer[..take]);
        if self.member.len() == MEMBER {
            self.send()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One gzip member. Its header has no name, no time and no system (libdeflate writes OS 255, unknown).
fn compressed(member: &[u8]) -> Vec<u8> {
    thread_local! {
        static COMPRESSOR: RefCell<Compressor> =
            RefCell::new(Compressor::new(CompressionLvl::new(LEVEL).expect("the level is one that there is")));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut out = vec![0; compressor.gzip_compress_bound(member.len())];
        let size = compressor.gzip_compress(member, &mut out).expect("the bound is one");
        out.truncate(size);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A megabyte that neither repeats simply nor is random: a linear congruential generator's low bits.
    fn megabyte() -> Vec<u8> {
        let mut state = 12345_u32;
        (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 28) as u8
            })
            .collect()
    }

    #[test]
    fn blob_is_golden() {
        let mut blob = Vec::new();
        let digests = compress(&megabyte()[..], &mut blob).unwrap();
        assert_eq!(digests.digest, Digest::of(&blob));
        assert_eq!(digests.diff_id, DiffId(Digest::of(&megabyte())));
        assert_eq!(digests.size, 569_325);
        assert_eq!(
            digests.digest.to_string(),
            "sha256:e0565add64a89e7fa3b4e7cd1849712e87b3a696c9b309e5ad48695cd0d4d702"
        );
    }

    #[test]
    fn a_blob_of_many_members_is_one_stream_and_the_same_whoever_compresses() {
        let tar: Vec<u8> = megabyte().into_iter().cycle().take((5 << 20) + 7).collect();
        let mut blob = Vec::new();
        let digests = compress(&tar[..], &mut blob).unwrap();
        let mut read = Vec::new();
        flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut read).unwrap();
        assert!(read == tar, "what was put in comes out");
        let one_by_one: Vec<u8> = tar.chunks(MEMBER).flat_map(compressed).collect();
        assert!(blob == one_by_one);
        assert_eq!(digests.uncompressed, tar.len() as u64);
    }

    #[test]
    fn a_tar_of_nothing_is_a_blob_that_can_be_read() {
        let mut blob = Vec::new();
        compress(&b""[..], &mut blob).unwrap();
        let mut read = Vec::new();
        flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"");
    }

    #[test]
    fn blob_does_not_depend_on_how_the_tar_is_cut() {
        let whole = compress(&megabyte()[..], io::sink()).unwrap();
        for cut in [1000, 4096, 65_537, 700_001] {
            let mut writer = LayerWriter::new(io::sink());
            for part in megabyte().chunks(cut) {
                writer.write_all(part).unwrap();
                writer.flush().unwrap();
            }
            assert_eq!(writer.finish().unwrap().1, whole, "{cut}");
        }
    }
}
