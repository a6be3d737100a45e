//! Small images with random layers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;

use imgforge::image::{Content, Descriptor, Image, Kind, Layer};
use imgforge::layer;
use imgforge::progress::{Event, Progress, Reporter};
use serde_json::json;

/// An image whose layers each hold one file of so many random bytes. The blobs are files in `folder`.
pub fn sample_image(kind: Kind, folder: &Path, sizes: &[usize]) -> Image {
    let layers: Vec<Layer> =
        sizes.iter().enumerate().map(|(at, size)| sample_layer(kind, folder, at, *size)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created_by": "test"})).collect::<Vec<_>>(),
    });
    Image::new(kind, config.as_object().unwrap().clone(), layers).unwrap()
}

fn sample_layer(kind: Kind, folder: &Path, at: usize, size: usize) -> Layer {
    let mut content = vec![0; size];
    getrandom::fill(&mut content).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, format!("file-{at}"), &content[..]).unwrap();
    let mut blob = Vec::new();
    let digests =
        layer::compress(imgforge::config::Compression::Gzip, &tar.into_inner().unwrap()[..], &mut blob)
            .unwrap();
    let path = folder.join(format!("layer-{at}.tar.gz"));
    std::fs::write(&path, blob).unwrap();
    let descriptor = Descriptor::new(kind.gzip_layer(), digests.digest, digests.size);
    Layer { descriptor, diff_id: digests.diff_id, content: Content::File(Arc::new(path)) }
}

/// The files with the layers' blobs.
pub fn layer_files(image: &Image) -> Vec<PathBuf> {
    let files = image.layers().iter().map(|layer| match &layer.content {
        Content::File(path) => path.to_path_buf(),
        other => panic!("not in a file: {other:?}"),
    });
    files.collect()
}

/// Keeps every event.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl Events {
    pub fn reporter() -> (Arc<Events>, Reporter) {
        let events = Arc::new(Events::default());
        (Arc::clone(&events), Reporter::new(events))
    }

    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// The bytes that all tasks together have told.
    pub fn bytes(&self) -> u64 {
        let advanced = |event: &Event| match event {
            Event::TaskAdvanced { bytes, .. } => *bytes,
            _ => 0,
        };
        self.all().iter().map(advanced).sum()
    }
}

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}
