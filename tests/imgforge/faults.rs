//! Bad input and bad luck in the local pipeline: the right code, a clear error, what runs left alone, nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use crate::support::tiny::{Tiny, files};

/// A released project whose service runs.
fn released() -> Tiny {
    let tiny = Tiny::new("");
    tiny.program().run(&["release"]).ok();
    tiny
}

fn edit(tiny: &Tiny, file: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(tiny.path().join(file)).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    tiny.write(file, &text.replace(from, to));
}

/// Files that a killed or failed run could leave half written.
fn left_behind(tiny: &Tiny) -> Vec<std::path::PathBuf> {
    let name = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary =
        |name: &str| name.starts_with(".tmp") || name.ends_with(".tmp") || name.ends_with(".partial");
    files(&tiny.path().join(".imgforge"))
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| temporary(&name(path)))
        .collect()
}

#[test]
fn a_failing_run_shows_its_own_last_lines_and_leaves_the_service_alone() {
    let tiny = released();
    let containers = tiny.containers();
    edit(&tiny, "web.Dockerfile", "RUN echo built > /www/built", "RUN echo the reason; exit 3");
    let ended = tiny.program().run(&["release"]).failed(1, "the reason");
    assert!(
        ended.stderr.contains("exit 3")
            || ended.stderr.contains("code 3")
            || ended.stderr.contains("code: 3"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("was not touched"), "{}", ended.stderr);
    assert_eq!(tiny.containers(), containers);
}

#[test]
fn a_failing_once_task_stops_before_the_switch() {
    let tiny = released();
    let containers = tiny.containers();
    tiny.write("www/index.html", "changed\n");
    edit(&tiny, "imgforge.toml", "echo migrated", "echo cannot migrate; exit 9");
    let ended = tiny.program().run(&["release"]).failed(1, "once-task migrate ended with code 9");
    assert!(ended.stderr.contains("cannot migrate"), "{}", ended.stderr);
    assert_eq!(tiny.containers(), containers);
    assert!(tiny.fetch("").contains("public"), "the old release serves");
}

#[test]
fn an_unhealthy_release_is_rolled_back_with_code_3() {
    let tiny = released();
    tiny.write("www/index.html", "changed\n");
    edit(&tiny, "web.Dockerfile", "CMD [\"httpd\"", "CMD [\"sleep\", \"60\", \"httpd\"");
    let ended = tiny.program().run(&["release"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(tiny.fetch("").contains("public"), "the old release serves again");
}

#[test]
fn a_once_task_in_an_unknown_container_is_refused_before_anything() {
    let tiny = Tiny::new("");
    edit(&tiny, "imgforge.toml", "container = \"web\"", "container = \"wbe\"");
    let ended = tiny.program().run(&["release"]).failed(6, "wbe");
    assert!(ended.stderr.contains("web"), "{}", ended.stderr);
    assert!(!tiny.path().join(".imgforge/images").exists());
}

#[test]
fn a_registry_that_is_down_is_found_before_anything_is_built() {
    let tiny = released();
    let containers = tiny.containers();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    edit(&tiny, "imgforge.toml", "oci:.imgforge/images", &format!("{closed}/tiny"));
    let ended = tiny.program().run(&["release"]).failed(6, &closed.to_string());
    assert!(!ended.stderr.contains("== build"), "{}", ended.stderr);
    assert_eq!(tiny.containers(), containers);
}

#[test]
fn a_second_release_at_the_same_time_is_told_so_with_code_5() {
    let tiny = Tiny::new("");
    std::fs::create_dir_all(tiny.path().join(".imgforge")).unwrap();
    let held = std::fs::File::create(tiny.path().join(".imgforge/release-local.lock")).unwrap();
    held.lock().unwrap();
    tiny.program().run(&["release"]).failed(5, "another imgforge is at work");
    assert_eq!(tiny.containers(), [] as [String; 0]);
}

#[test]
fn an_empty_secret_is_refused() {
    let tiny = Tiny::new("");
    tiny.write("secrets/server_settings.py", " \n");
    let ended = tiny.program().run(&["release"]);
    assert!(matches!(ended.code, 2 | 6), "{} {}", ended.code, ended.stderr);
    assert!(ended.stderr.contains("nothing but white space"), "{}", ended.stderr);
    assert!(!tiny.path().join(".imgforge/images").exists());
}

/// In a mount namespace of its own, where the project's work folder is a file system of two megabytes.
#[test]
fn a_full_disk_is_said_in_plain_words_and_nothing_half_written_is_kept() {
    let tiny = Tiny::new("");
    std::fs::create_dir_all(tiny.path().join(".imgforge")).unwrap();
    // Four megabytes that do not compress.
    let noise: Vec<u8> =
        (0..4_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (i >> 7) as u8).collect();
    std::fs::write(tiny.path().join("www/noise"), noise).unwrap();
    let script = "mount -t tmpfs -o size=2m none .imgforge && \"$0\" push; code=$?; find .imgforge -name '.partial-*'; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, crate::support::program::BINARY]);
    let done = command.current_dir(tiny.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("the disk is full") || stderr.contains("No space left"), "{stderr}");
    assert!(stderr.contains("help:"), "{stderr}");
    assert_eq!(stdout, "", "half-written files stayed");
}

/// Starts a release, interrupts it when `stage` begins, and gives its code and last line.
fn interrupt_at(tiny: &Tiny, stage: &str) -> (i32, String) {
    let mut command = tiny.program().command(&["release", "--output", "json"]);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = format!("{{\"schema\":1,\"event\":\"stage-started\",\"stage\":\"{stage}\"}}");
    let mut reached = false;
    for line in lines.by_ref() {
        if line.unwrap() == begun {
            reached = true;
            break;
        }
    }
    assert!(reached, "{stage} did not begin");
    let done = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(done.success());
    let last = lines.map_while(Result::ok).last().unwrap_or_default();
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), last)
}

#[test]
fn ctrl_c_at_any_step_ends_at_once_leaves_nothing_and_the_next_run_goes_on() {
    let tiny = Tiny::new("");
    for stage in ["observe", "bases", "build", "push"] {
        let (code, last) = interrupt_at(&tiny, stage);
        assert_eq!(code, 1, "{stage}: {last}");
        assert!(last.contains("\"what\":\"interrupted\""), "{stage}: {last}");
        assert_eq!(left_behind(&tiny), [] as [std::path::PathBuf; 0], "{stage}");
        assert_eq!(tiny.containers(), [] as [String; 0], "{stage}");
    }
    interrupt_at(&tiny, "deploy");
    tiny.program().run(&["release"]).ok();
    assert!(tiny.fetch("private/server_settings.py").contains(&tiny.canary));
}
