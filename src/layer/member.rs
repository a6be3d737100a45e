//! One member of a blob: a piece of the tar that is compressed by itself.
//!
//! A gzip file is a series of members (RFC 1952, section 2.2), a zstd file one of frames (RFC 8878, section 3): who reads it
//! sees one stream.
//!
//! Invariant (contract 8): what comes out follows from what went in, on any machine. The encoders' versions are in
//! Cargo.lock, and golden digests tell when one of them writes something else.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor};

use crate::config::Compression;

/// gzip's level: twice as fast as the next one, and within a few per cent of the size that level 6 gives.
const GZIP_LEVEL: i32 = 1;
/// zstd's level. On Python packages it is half as fast again as gzip at its level and gives a seventh less; level 4 gives one
/// per cent less, and 5 takes twice as long. From 5 on what is found also depends on the processor's vector instructions
/// (zstd_compress.c, `ZSTD_resolveRowMatchFinderMode`), below it does not.
const ZSTD_LEVEL: i32 = 3;

/// How much of the tar is in one member.
pub(super) fn size(compression: Compression) -> usize {
    match compression {
        Compression::Gzip => 1 << 20,
        // It looks further back than gzip's 32 KiB: smaller frames cost up to three per cent, larger ones give less than one.
        Compression::Zstd => 4 << 20,
    }
}

/// The member.
pub(super) fn compressed(compression: Compression, member: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => gzip(member),
        Compression::Zstd => zstd(member),
    }
}

/// Its header has no name, no time and no system (libdeflate writes OS 255, unknown).
fn gzip(member: &[u8]) -> Vec<u8> {
    thread_local! {
        static COMPRESSOR: RefCell<Compressor> =
            RefCell::new(Compressor::new(CompressionLvl::new(GZIP_LEVEL).expect("the level is one that there is")));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut out = vec![0; compressor.gzip_compress_bound(member.len())];
        let size = compressor.gzip_compress(member, &mut out).expect("the bound is one");
        out.truncate(size);
        out
    })
}

/// Its header tells the content's size, so that a reader needs no larger window; no checksum, since the blob's digest is one.
fn zstd(member: &[u8]) -> Vec<u8> {
    thread_local! {
        static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> =
            RefCell::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level is one that there is"));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.compress(member).expect("its buffer is as large as the bound")
    })
}
