//! How a layer's blob is packed, and the tar inside.
//!
//! Told by its first bytes, as a Docker daemon does (moby, pkg/archive/archive.go, `DetectCompression`): media types are
//! written by many tools, and not all of them rightly.

use std::io::{self, BufReader, Cursor, Read};

/// How much is read at a time.
const BUFFER: usize = 128 << 10;

/// How a blob is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is the tar.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Packing {
    /// By a blob's first bytes; four are enough.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            // A frame that readers pass over (RFC 8878, section 3.1.2): some tools keep notes in them.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// The tar in `blob`, streaming: all members or frames, one after the other.
///
/// # Errors
/// Those of reading the first bytes.
pub fn unpacked<'r>(mut blob: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut start = Vec::with_capacity(4);
    blob.by_ref().take(4).read_to_end(&mut start)?;
    let packing = Packing::of(&start);
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(blob));
    Ok(match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow connection may.
    struct Dripping<'b>(&'b [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let take = buffer.len().min(1);
            self.0.read(&mut buffer[..take])
        }
    }

    fn read(blob: &[u8]) -> io::Result<Vec<u8>> {
        let mut tar = Vec::new();
        unpacked(Dripping(blob))?.read_to_end(&mut tar)?;
        Ok(tar)
    }

    #[test]
    fn every_packing_is_told_by_its_first_bytes_however_they_come() {
        let frame = zstd::bulk::compress(b"tar", 1).unwrap();
        let note = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7][..], &frame].concat();
        for blob in [b"tar".to_vec(), frame.clone(), note] {
            assert_eq!(read(&blob).unwrap(), b"tar");
        }
        assert_eq!(read(&[&frame[..], &frame].concat()).unwrap(), b"tartar", "frames are one stream");
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"t").unwrap(), b"t");
    }

    #[test]
    fn a_blob_that_was_cut_is_an_error() {
        let frame = zstd::bulk::compress(&[7; 4096], 1).unwrap();
        assert!(read(&frame[..frame.len() - 2]).is_err());
    }
}
