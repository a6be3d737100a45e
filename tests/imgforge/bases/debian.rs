//! Bases made of Debian packages.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imgforge::base::debian;
use imgforge::config::Debian;
use imgforge::digest::DiffId;
use imgforge::error::Kind;
use imgforge::image::{Content, Image};
use imgforge::progress::{Event, Outcome, Progress, Reporter};

use crate::support::debian::{base, bases, platform, recipe};

/// How tasks ended.
#[derive(Default)]
struct Ended(Mutex<Vec<Outcome>>);

impl Progress for Ended {
    fn event(&self, event: Event) {
        if let Event::TaskFinished { outcome, .. } = event {
            self.0.lock().unwrap().push(outcome);
        }
    }
}

fn blob(image: &Image) -> &Path {
    match &image.layers()[0].content {
        Content::File(path) => path,
        other => panic!("{other:?}"),
    }
}

/// Each file of the image with its mode, and the contents of those whose path `keep` takes.
fn unpacked(image: &Image, keep: impl Fn(&str) -> bool) -> Vec<(String, tar::Header, Vec<u8>)> {
    let gzip = flate2::read::MultiGzDecoder::new(std::fs::File::open(blob(image)).unwrap());
    let mut tar = tar::Archive::new(gzip);
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let path = path.trim_start_matches("./").to_owned();
        let mut content = Vec::new();
        if keep(&path) {
            entry.read_to_end(&mut content).unwrap();
        }
        (path, entry.header().clone(), content)
    });
    entries.collect()
}

#[tokio::test]
async fn a_base_is_made_once_and_then_taken_from_the_cache() {
    let made = base(&["python3"]).await;
    let ended = Arc::new(Ended::default());
    let recipe = recipe(&["python3"]);
    let again = debian::make(&bases(), &recipe, platform(), "python", &Reporter::new(ended.clone())).await;
    assert_eq!(again.unwrap().digest(), made.digest());
    assert_eq!(*ended.0.lock().unwrap(), [Outcome::Reused]);
    let key = debian::key(&recipe, platform()).unwrap();
    assert_eq!(debian::cached(&bases(), &key, platform()).await.unwrap().digest(), made.digest());
    assert!(debian::cached(&bases(), "bookworm-amd64-000000000000", platform()).await.is_none());

    assert_eq!(made.platform(), platform());
    let config = &made.config()["config"];
    assert!(config["Env"][0].as_str().unwrap().starts_with("PATH=/usr/local/sbin:"), "{config}");
    assert_eq!(made.config()["created"], "2000-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_base_holds_nothing_of_the_machine_it_was_made_on() {
    let made = base(&["python3"]).await;
    let kept = ["etc/apt/sources.list", "etc/hostname", "etc/resolv.conf"];
    let files = unpacked(&made, |path| kept.contains(&path) || path.ends_with(".pyc"));
    let text = |path: &str| {
        let file = files.iter().find(|(name, ..)| name == path).unwrap_or_else(|| panic!("no {path}"));
        String::from_utf8(file.2.clone()).unwrap()
    };
    assert_eq!(text("etc/hostname"), "localhost\n");
    assert_eq!(text("etc/resolv.conf"), "");
    let sources = text("etc/apt/sources.list");
    assert!(
        sources.lines().any(|line| line.starts_with("deb http") && line.contains(" bookworm main")),
        "{sources}"
    );
    assert!(!sources.contains('@') && !sources.contains('['), "{sources}");

    let has = |prefix: &str| files.iter().any(|(path, ..)| path.starts_with(prefix));
    assert!(has("usr/bin/python3") && has("usr/share/doc/bash/copyright"));
    let docs = files.iter().filter(|(path, header, _)| {
        let left_out = ["usr/share/man/", "usr/share/locale/", "usr/share/doc/"];
        let file = header.entry_type() == tar::EntryType::Regular;
        file && left_out.iter().any(|prefix| path.starts_with(prefix)) && !path.ends_with("/copyright")
    });
    let docs: Vec<_> = docs.map(|(path, ..)| path).collect();
    assert!(docs.len() < 20, "{docs:?}");
    for (path, header, content) in &files {
        assert!(header.mtime().unwrap() <= 946_684_800, "{path}");
        let device = matches!(header.entry_type(), tar::EntryType::Char | tar::EntryType::Block);
        assert!(!device, "{path}");
        // PEP 552: flags 3 is checked by the source's content, so that the source's time does not count.
        if path.ends_with(".pyc") {
            assert_eq!(content[4..8], [3, 0, 0, 0], "{path}");
        }
    }
    assert!(files.iter().any(|(path, ..)| path.ends_with(".pyc")));
}

#[tokio::test]
async fn two_runs_at_once_make_one_base_and_another_folder_gets_the_same_digest() {
    let one = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let ended = Arc::new(Ended::default());
    let progress = Reporter::new(ended.clone());
    let (recipe, silent) = (recipe(&[]), Reporter::silent());
    let (first, second, elsewhere) = tokio::join!(
        debian::make(one.path(), &recipe, platform(), "a", &progress),
        debian::make(one.path(), &recipe, platform(), "b", &progress),
        debian::make(other.path(), &recipe, platform(), "c", &silent),
    );
    let (first, second, elsewhere) = (first.unwrap(), second.unwrap(), elsewhere.unwrap());
    let mut outcomes = ended.0.lock().unwrap().clone();
    outcomes.sort_by_key(|outcome| *outcome == Outcome::Reused);
    assert_eq!(outcomes, [Outcome::Done, Outcome::Reused]);
    assert_eq!(first.digest(), second.digest());
    assert_eq!(first.digest(), elsewhere.digest());
    assert_eq!(left_in(one.path()), [debian::key(&recipe, platform()).unwrap()]);

    // The blob is what its names say.
    let mut tar = Vec::new();
    let bytes = std::fs::read(blob(&first)).unwrap();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut tar).unwrap();
    assert_eq!(imgforge::digest::Digest::of(&bytes), first.layers()[0].descriptor.digest);
    assert_eq!(DiffId(imgforge::digest::Digest::of(&tar)), first.layers()[0].diff_id);
}

/// What is in a folder of bases, but for locks.
fn left_in(bases: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(bases).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

#[tokio::test]
async fn a_suite_that_is_not_there_fails_with_mmdebstraps_last_lines_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Debian { suite: "imgforge-has-no-such-suite".into(), packages: Vec::new() };
    let error = debian::make(folder.path(), &recipe, platform(), "python", &Reporter::silent()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.what().contains("mmdebstrap could not make imgforge-has-no-such-suite"), "{error:?}");
    assert!(error.causes().join("\n").contains("apt-get update"), "{error:?}");
    assert!(error.help_text().unwrap().contains("[bases]"), "{error:?}");
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
}

/// Tells what tasks are doing.
struct Details(tokio::sync::mpsc::UnboundedSender<String>);

impl Progress for Details {
    fn event(&self, event: Event) {
        if let Event::TaskDetail { detail, .. } = event {
            // Nobody listens any more once the run was given up.
            let _ = self.0.send(detail);
        }
    }
}

#[tokio::test]
async fn a_run_that_is_given_up_ends_mmdebstrap_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (send, mut details) = tokio::sync::mpsc::unbounded_channel();
    let progress = Reporter::new(Arc::new(Details(send)));
    let recipe = recipe(&[]);
    let making = debian::make(folder.path(), &recipe, platform(), "python", &progress);
    let working_in = async {
        let mut root = None;
        loop {
            let detail = details.recv().await.unwrap();
            let path = detail.strip_prefix("using ").and_then(|rest| rest.strip_suffix(" as tempdir"));
            root = path.map(PathBuf::from).or(root);
            if detail.starts_with("running apt-get update") {
                return root.unwrap();
            }
        }
    };
    let root = tokio::select! {
        made = making => panic!("{made:?}"),
        root = working_in => root,
    };
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
    // mmdebstrap removes its own folder when it is told to end. The limit is there for a test that would hang.
    let removed = async {
        while root.exists() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), removed).await.expect("mmdebstrap goes on");
}

#[tokio::test]
async fn a_damaged_base_counts_as_missing() {
    let made = base(&["python3"]).await;
    let key = debian::key(&recipe(&["python3"]), platform()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(&key);
    std::fs::create_dir_all(copy.join("blobs/sha256")).unwrap();
    for name in ["oci-layout", "index.json"] {
        std::fs::copy(bases().join(&key).join(name), copy.join(name)).unwrap();
    }
    for digest in [made.digest(), made.config_descriptor().digest] {
        let path = format!("blobs/sha256/{}", digest.hex());
        std::fs::copy(bases().join(&key).join(&path), copy.join(&path)).unwrap();
    }
    assert!(debian::cached(folder.path(), &key, platform()).await.is_none(), "its layer is missing");
}
