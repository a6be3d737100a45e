//! Makes layers: tar, both digests and gzip in one pass.
//!
//! Invariant: the encoder and its level are pinned, and it is fed in blocks of one size, because its output depends on
//! where the input is cut. Same tar → same blob, on any machine (contract 8).

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::digest::{DiffId, Digest, Hashing};
use crate::error::Result;

pub mod bake;
pub mod files;

/// The pinned gzip level: within a few per cent of the size of 6 in a third of the time.
const LEVEL: u32 = 3;
/// How much the encoder gets at a time.
const BLOCK: usize = 64 * 1024;

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
    tar: Hashing<Blocks<GzEncoder<Hashing<W>>>>,
}

impl<W: Write> LayerWriter<W> {
    /// Writes the blob to `out`.
    pub fn new(out: W) -> Self {
        // GzBuilder's defaults: no name, mtime 0, OS 255 (unknown): nothing of this machine.
        let gzip = flate2::GzBuilder::new().write(Hashing::new(out), Compression::new(LEVEL));
        LayerWriter { tar: Hashing::new(Blocks { inner: gzip, block: Vec::with_capacity(BLOCK) }) }
    }

    /// Ends the blob.
    ///
    /// # Errors
    /// The writer's own.
    pub fn finish(self) -> io::Result<(W, Digests)> {
        let (mut blocks, diff_id, uncompressed) = self.tar.finish();
        blocks.send()?;
        let (out, digest, size) = blocks.inner.finish()?.finish();
        Ok((out, Digests { diff_id: DiffId(diff_id), uncompressed, digest, size }))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tar.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Flushing the encoder would change its output.
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

/// Gathers writes into blocks of one size.
struct Blocks<W> {
    inner: W,
    block: Vec<u8>,
}

impl<W: Write> Blocks<W> {
    fn send(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let take = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..take]);
        if self.block.len() == BLOCK {
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

    #[test]
    fn blob_is_golden() {
        let mut blob = Vec::new();
        let digests = compress(&megabyte()[..], &mut blob).unwrap();
        assert_eq!(digests.digest, Digest::of(&blob));
        assert_eq!(digests.diff_id, DiffId(Digest::of(&megabyte())));
        assert_eq!(digests.size, 568_163);
        assert_eq!(
            digests.digest.to_string(),
            "sha256:374ac2ab87f705e2dca799b78a75aad483724d5282ab43dda587bca4306fbff5"
        );
    }

    #[test]
    fn blob_does_not_depend_on_how_the_tar_is_cut() {
        let whole = compress(&megabyte()[..], io::sink()).unwrap();
        for cut in [1000, 4096, 65_537] {
            let mut writer = LayerWriter::new(io::sink());
            for part in megabyte().chunks(cut) {
                writer.write_all(part).unwrap();
                writer.flush().unwrap();
            }
            assert_eq!(writer.finish().unwrap().1, whole, "{cut}");
        }
    }
}
