//! What goes wrong, and how it is told. No daemon, no network.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use crate::support::direct::Direct;

#[test]
fn a_place_that_is_not_in_the_context_is_told() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"sitte\"\nto = \"/srv\"\n");
    direct.write("site/index.html", "1");
    direct.program().run(&["push"]).failed(2, "copies sitte, which the build context has not");
    // A link is no way out of the context.
    symlink("/etc", direct.path().join("sitte")).unwrap();
    direct.configure("[[images.web.copy]]\nfrom = \"sitte/ssl\"\nto = \"/srv\"\n");
    direct.program().run(&["push"]).failed(2, "copies sitte/ssl, which the build context has not");
    direct.configure("[[images.web.copy]]\nfrom = \"secrets\"\nto = \"/srv\"\n");
    direct.program().run(&["push"]).failed(2, "copies secrets, which the build context has not");
}

#[test]
fn what_is_neither_file_nor_link_stays_out_with_a_word() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n");
    direct.write("site/index.html", "1");
    let _socket = UnixListener::bind(direct.path().join("site/socket")).unwrap();
    let ended = direct.program().run(&["push"]).ok();
    assert!(ended.stderr.contains("site/socket is a socket"), "{}", ended.stderr);
}

#[test]
fn a_file_in_the_place_of_a_directory_is_refused() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"site/tmp\"\nto = \"/tmp\"\n");
    direct.write("site/tmp", "1");
    direct.program().run(&["push"]).failed(2, "/tmp is a file here and a directory in the base");
}

#[test]
fn links_that_go_round_are_kept_and_not_followed() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n");
    direct.write("site/index.html", "1");
    symlink("b", direct.path().join("site/a")).unwrap();
    symlink("a", direct.path().join("site/b")).unwrap();
    symlink("..", direct.path().join("site/up")).unwrap();
    let pushed = direct.push();
    assert_eq!(pushed.layers[1].len(), 5);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n");
    direct.write("site/index.html", "1");
    std::fs::set_permissions(direct.path().join("site/index.html"), PermissionsExt::from_mode(0o000))
        .unwrap();
    // root reads anything.
    if std::fs::read(direct.path().join("site/index.html")).is_err() {
        direct.program().run(&["push"]).failed(1, "site/index.html");
    }
}

#[test]
fn a_base_without_python_gets_no_packages() {
    let direct = Direct::new("[images.web.python]\npackages = [\"whitenoise==6.12.0\"]\n");
    direct.program().run(&["push"]).failed(2, "the base of image \"web\" has no Python");
}

#[test]
fn a_missing_uv_is_told_with_the_way_to_get_it() {
    let direct =
        Direct::new("[images.web.python]\npackages = [\"whitenoise==6.12.0\"]\nversion = \"3.11\"\n");
    let program = direct.program().with("PATH", "/nowhere");
    let ended = program.run(&["push"]).failed(6, "uv, which is not on PATH");
    assert!(ended.stderr.contains("pip install uv"), "{}", ended.stderr);
    program.run(&["doctor"]).failed(6, "uv, which is not on PATH");
}

#[test]
fn a_user_that_the_base_has_is_not_added_again() {
    let direct = Direct::new("[[images.web.users]]\nname = \"root\"\nuid = 5\n");
    direct.program().run(&["push"]).failed(2, "its base has \"root\" already");
}
