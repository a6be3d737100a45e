//! Users and directories: a small layer right above the base.

use crate::base::contents::Contents;
use crate::config::Owner;
use crate::config::direct::{DirectoryConfig, UserConfig};
use crate::engine::direct::tree::{Rootfs, Tree, What};
use crate::error::{Error, Result};

/// The layer with lines for `users` in the base's /etc/passwd and /etc/group, their homes, and `directories`.
///
/// # Errors
/// A user or number that the base has already, a base without these files.
pub(super) fn tree(
    image: &str,
    users: &[&UserConfig],
    directories: &[&DirectoryConfig],
    contents: &Contents,
    rootfs: &Rootfs,
) -> Result<Tree> {
    let root = Owner::default();
    let mut tree = Tree::default();
    if !users.is_empty() {
        // A base that is one program may have neither.
        let mut passwd = whole_lines(contents.passwd.as_deref().unwrap_or("root:x:0:0:root:/root:/bin/sh\n"));
        let mut group = whole_lines(contents.group.as_deref().unwrap_or("root:x:0:\n"));
        for user in users {
            let (name, uid, gid) = (user.name.get_ref(), user.uid, user.gid.unwrap_or(user.uid));
            let home = user.home.as_ref().map(|home| home.get_ref().relative().to_owned());
            let home = home.unwrap_or_else(|| format!("home/{name}"));
            for (field, value) in [(0, name.as_str()), (2, &uid.to_string())] {
                if let Some(line) = passwd.lines().find(|line| line.split(':').nth(field) == Some(value)) {
                    let other = line.split(':').next().unwrap_or_default();
                    return Err(Error::config(format!(
                        "image {image:?} adds the user {name} ({uid}), and its base has {other:?} already"
                    ))
                    .help(format!("take another name and number, or take it out of images.{image}.users")));
                }
            }
            passwd.push_str(&format!("{name}:x:{uid}:{gid}::/{home}:{}\n", user.shell.get_ref()));
            // A group that is there is shared.
            if !group.lines().any(|line| line.split(':').nth(2) == Some(&gid.to_string())) {
                group.push_str(&format!("{name}:x:{gid}:\n"));
            }
            let home = rootfs.resolve(&home)?;
            if !rootfs.has_directory(&home) {
                tree.insert(home, What::Directory, Owner { uid, gid }, 0o755);
            }
        }
        tree.insert(rootfs.resolve("etc/passwd")?, What::Bytes(passwd.into_bytes()), root, 0o644);
        tree.insert(rootfs.resolve("etc/group")?, What::Bytes(group.into_bytes()), root, 0o644);
    }
    for directory in directories {
        let path = rootfs.resolve(directory.path.get_ref().relative())?;
        tree.insert(path, What::Directory, directory.owner, directory.mode.0);
    }
    Ok(tree)
}

fn whole_lines(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
