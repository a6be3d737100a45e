//! The machine's Docker daemon, images of one static binary to build on, and ways to stand between a client and a daemon.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imgforge::base::Base;
use imgforge::config::EngineName;
use imgforge::digest::{DiffId, Digest};
use imgforge::engine::cache::LayerCache;
use imgforge::engine::daemon::Daemon;
use imgforge::engine::docker::DockerEngine;
use imgforge::engine::{Built, Recipe};
use imgforge::image::{Content, Descriptor, Image, Kind, Layer};
use imgforge::progress::{Event, Outcome, Progress, Reporter};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// The daemon's socket.
pub const SOCKET: &str = "/var/run/docker.sock";

/// A word that no other test, run or machine uses.
pub fn unique(prefix: &str) -> String {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).unwrap();
    format!("{prefix}-{}", hex::encode(bytes))
}

/// A daemon found with these variables alone and no Docker configuration.
pub fn daemon_with(variables: &[(&str, &str)]) -> Daemon {
    let lookup =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Daemon::connect(&lookup, Path::new("no-docker-configuration")).unwrap()
}

/// The machine's daemon.
pub fn daemon() -> Daemon {
    daemon_with(&[])
}

/// Runs the docker CLI.
pub fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("the docker CLI is there")
}

/// Runs the docker CLI and gives what it prints.
pub fn docker_prints(arguments: &[&str]) -> String {
    let output = docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Removes the images that releases of a project left on the daemon, by name: another project may have the same image under
/// another one.
pub fn remove_images(project: &str) {
    let named = format!("reference=imgforge/{project}-*");
    let listed = docker(&["image", "ls", "--filter", &named, "--format", "{{.Repository}}:{{.Tag}}"]).stdout;
    for image in String::from_utf8_lossy(&listed).lines() {
        docker(&["image", "rm", "--force", image]);
    }
}

/// Keeps every event.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Recorder {
    /// A recorder and the reporter that feeds it.
    pub fn new() -> (Arc<Recorder>, Reporter) {
        let recorder = Arc::new(Recorder::default());
        (Arc::clone(&recorder), Reporter::new(recorder))
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines that something printed.
    pub fn lines(&self) -> Vec<String> {
        let line = |event| match event {
            Event::Log { line, .. } => Some(line),
            _ => None,
        };
        self.events().into_iter().filter_map(line).collect()
    }

    /// How the first task of this kind ended.
    pub fn outcome(&self, what: &str) -> Option<Outcome> {
        let events = self.events();
        let wanted = events.iter().find_map(|event| match event {
            Event::TaskStarted { task, what: is, .. } if is == what => Some(*task),
            _ => None,
        })?;
        events.iter().find_map(|event| match event {
            Event::TaskFinished { task, outcome, .. } if *task == wanted => Some(*outcome),
            _ => None,
        })
    }
}

/// A project's folder on a daemon: what is built in it is removed from the daemon when it is dropped.
pub struct Site {
    folder: tempfile::TempDir,
    project: String,
    base: Base,
}

impl Site {
    /// A folder with these files, on a base image of its own.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = unique("test");
        let image = busybox(&folder.path().join("base"), &project);
        let site = Site { folder, base: Base::Local { name: project.clone(), image: image.into() }, project };
        for (name, text) in files {
            site.write(name, text);
        }
        site
    }

    /// Writes a file of the build context.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.context().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The build context.
    pub fn context(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// imgforge's own folder.
    pub fn work_dir(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The base's image.
    pub fn base_image(&self) -> &Image {
        match &self.base {
            Base::Local { image, .. } => image,
            Base::Registry(_) | Base::Read { .. } => unreachable!("it was made as a local one"),
        }
    }

    /// An engine on `daemon` whose cache is this site's.
    pub fn engine(&self, daemon: Daemon) -> DockerEngine {
        DockerEngine::new(daemon, self.cache())
    }

    /// That cache.
    pub fn cache(&self) -> LayerCache {
        LayerCache::new(self.work_dir().join("layers"))
    }

    /// How to build `image` from `NAME.Dockerfile`.
    pub fn recipe(&self, image: &str) -> Recipe {
        Recipe {
            project: self.project.clone(),
            image: image.into(),
            base: Some(self.base.clone()),
            dockerfile: self.context().join(format!("{image}.Dockerfile")),
            context: self.context(),
            withheld: Vec::new(),
            target: None,
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            direct: None,
        }
    }

    /// The name that the last build of `image` has on the daemon.
    pub fn built_name(&self, image: &str) -> String {
        format!("imgforge/{}-{image}:build", self.project)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Images carry the project in a label that the base gave them.
        let label = format!("label=imgforge.test={}", self.project);
        let listed = docker(&["image", "ls", "--all", "--quiet", "--no-trunc", "--filter", &label]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for id in listed.lines() {
            docker(&["image", "rm", "--force", id]);
        }
    }
}

/// What an engine would say of an image with this id.
pub fn built(id: Digest) -> Built {
    Built { image: "web".into(), engine: EngineName::Docker, id, base: None, reused: false }
}

/// An image that holds a static busybox with its commands, and a label that names the test.
pub fn busybox(folder: &Path, name: &str) -> Image {
    std::fs::create_dir_all(folder).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |name: &str, kind: tar::EntryType, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for name in ["bin", "etc", "home", "tmp"] {
        entry(name, tar::EntryType::Directory, if name == "tmp" { 0o1777 } else { 0o755 }, b"");
    }
    let binary = std::fs::read("/bin/busybox").expect("the package busybox-static is installed");
    entry("bin/busybox", tar::EntryType::Regular, 0o755, &binary);
    entry(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:0::/:/bin/sh\ndocker:x:1000:1000::/home:/bin/sh\n",
    );
    entry("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\ndocker:x:1000:\n");
    // Nothing that another test built is in a builder's cache for this one.
    entry("etc/name", tar::EntryType::Regular, 0o644, name.as_bytes());
    for name in
        ["cat", "echo", "env", "find", "grep", "ls", "seq", "sh", "sleep", "stat", "test", "touch", "wc"]
    {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_mtime(0);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let blob = folder.join("layer.tar.gz");
    let mut file = std::fs::File::create(&blob).unwrap();
    let digests =
        imgforge::layer::compress(imgforge::config::Compression::Gzip, &tar[..], &mut file).unwrap();
    file.flush().unwrap();
    assert_eq!(digests.diff_id, DiffId(Digest::of(&tar)));
    let descriptor = Descriptor::new(Kind::Oci.gzip_layer(), digests.digest, digests.size);
    let layer = Layer { descriptor, diff_id: digests.diff_id, content: Content::File(Arc::new(blob)) };
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"imgforge.test": name}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "busybox"}],
    });
    Image::new(Kind::Oci, config.as_object().unwrap().clone(), vec![layer]).unwrap()
}

/// Stands between a client and a daemon, on a socket of its own: counts what the client sends, and can be cut.
pub struct Proxy {
    folder: tempfile::TempDir,
    sent: Arc<AtomicU64>,
    cut: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass connections on to the machine's daemon.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let (cut, is_cut) = watch::channel(false);
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counter, mut is_cut) = (Arc::clone(&counter), is_cut.clone());
                tokio::spawn(async move {
                    let Ok(server) = UnixStream::connect(SOCKET).await else { return };
                    tokio::select! {
                        () = pass(client, server, &counter) => {}
                        _ = is_cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Proxy { folder, sent, cut, task }
    }

    /// The value of DOCKER_HOST that leads through it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// Bytes that clients sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Closes every connection and takes no more, as a daemon that was killed.
    pub fn cut(&self) {
        self.task.abort();
        let _ = std::fs::remove_file(self.folder.path().join("docker.sock"));
        self.cut.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Passes bytes both ways until both sides are done, counting what `client` sends.
pub async fn pass<C, S>(client: C, server: S, sent: &AtomicU64)
where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            sent.fetch_add(read as u64, Ordering::SeqCst);
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}
