//! Makes layers: tar, both digests and the compressed blob in one pass, compressed on every core.
//!
//! The blob is a series of members of one size, gzip's or zstd's ([`member`]), so that they can be made side by side, and so
//! that what comes out depends on what went in and not on how many cores there were or where writes were cut.
//!
//! Invariant: the encoder, its level and the members' size are pinned. Same tar → same blob, on any machine (contract 8).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::config::Compression;
use crate::digest::{DiffId, Digest, Hashing};
use crate::error::Result;

pub mod bake;
pub mod files;
mod member;
pub mod overlay;
pub mod packing;

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
    /// Writes the blob to `out`, compressed so.
    pub fn new(compression: Compression, out: W) -> Self {
        LayerWriter {
            tar: Hashing::new(Members {
                compression,
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
pub fn compress(compression: Compression, mut tar: impl Read, out: impl Write) -> Result<Digests> {
    let mut writer = LayerWriter::new(compression, out);
    io::copy(&mut tar, &mut writer)?;
    let (mut out, digests) = writer.finish()?;
    out.flush()?;
    Ok(digests)
}

/// Gathers writes into members and has them compressed, a few at a time, in order.
struct Members<W> {
    compression: Compression,
    out: W,
    member: Vec<u8>,
    /// How many members were begun.
    written: usize,
    compressing: VecDeque<Receiver<Vec<u8>>>,
}

impl<W: Write> Members<W> {
    fn send(&mut self) -> io::Result<()> {
        let compression = self.compression;
        let member = std::mem::replace(&mut self.member, Vec::with_capacity(member::size(compression)));
        let (sender, receiver) = sync_channel(1);
        self.written += 1;
        rayon::spawn(move || {
            // Nobody waits for it any more when writing has failed.
            let _ = sender.send(member::compressed(compression, &member));
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
            self.out.write_all(&member::compressed(self.compression, &self.member))?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let size = member::size(self.compression);
        let take = buffer.len().min(size - self.member.len());
        self.member.extend_from_slice(&buffer[..take]);
        if self.member.len() == size {
            self.send()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

    fn unpacked(blob: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        packing::unpacked(blob).unwrap().read_to_end(&mut read).unwrap();
        read
    }

    #[test]
    fn blobs_are_golden() {
        let golden = [
            (
                Compression::Gzip,
                569_325,
                "sha256:e0565add64a89e7fa3b4e7cd1849712e87b3a696c9b309e5ad48695cd0d4d702",
            ),
            (
                Compression::Zstd,
                541_218,
                "sha256:5fd131bfeb6ff222791d3f609d4425dd614f31698c54327437339044a8996d5c",
            ),
        ];
        for (compression, size, digest) in golden {
            let mut blob = Vec::new();
            let digests = compress(compression, &megabyte()[..], &mut blob).unwrap();
            assert_eq!(digests.digest, Digest::of(&blob));
            assert_eq!(digests.diff_id, DiffId(Digest::of(&megabyte())));
            assert_eq!(
                (digests.size, digests.digest.to_string().as_str()),
                (size, digest),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn a_blob_of_many_members_is_one_stream_and_the_same_whoever_compresses() {
        let tar: Vec<u8> = megabyte().into_iter().cycle().take((9 << 20) + 7).collect();
        for compression in Compression::ALL {
            let mut blob = Vec::new();
            let digests = compress(compression, &tar[..], &mut blob).unwrap();
            assert!(unpacked(&blob) == tar, "what was put in comes out");
            let members = tar.chunks(member::size(compression));
            let one_by_one: Vec<u8> =
                members.flat_map(|member| member::compressed(compression, member)).collect();
            assert!(blob == one_by_one);
            assert_eq!(digests.uncompressed, tar.len() as u64);
        }
    }

    #[test]
    fn a_tar_of_nothing_is_a_blob_that_can_be_read() {
        for compression in Compression::ALL {
            let mut blob = Vec::new();
            compress(compression, &b""[..], &mut blob).unwrap();
            assert!(!blob.is_empty());
            assert_eq!(unpacked(&blob), b"");
        }
    }

    #[test]
    fn blob_does_not_depend_on_how_the_tar_is_cut() {
        for compression in Compression::ALL {
            let whole = compress(compression, &megabyte()[..], io::sink()).unwrap();
            for cut in [1000, 4096, 65_537, 700_001] {
                let mut writer = LayerWriter::new(compression, io::sink());
                for part in megabyte().chunks(cut) {
                    writer.write_all(part).unwrap();
                    writer.flush().unwrap();
                }
                assert_eq!(writer.finish().unwrap().1, whole, "{cut}");
            }
        }
    }
}
