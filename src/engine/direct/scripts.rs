//! What an installer leaves of the machine that it ran on, and how it is taken out of installed packages.
//!
//! Contract 8: the first lines of scripts name the installer's interpreter, RECORD holds the digests of those scripts and
//! is in the order of the installation, and direct_url.json can hold a path. Nothing else differs between machines.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Files of a `.dist-info` folder that say where a package came from on this machine (PEP 610, uv's own note).
const OF_THIS_MACHINE: [&str; 2] = ["direct_url.json", "uv_cache.json"];

/// Whether an installed file (its path below the folder) stays out of an image.
pub(super) fn is_left_out(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    path == ".lock"
        || path.split('/').any(|part| part == "__pycache__")
        || (folder.ends_with(".dist-info") && OF_THIS_MACHINE.contains(&name))
}

/// A console script with `interpreter` in its first line; `None` when it is none that an installer wrote.
pub(super) fn with_interpreter(script: &[u8], interpreter: &str) -> Option<Vec<u8>> {
    let (first, rest) = split_line(script);
    let first = first.strip_prefix(b"#!")?;
    if is_python(first) {
        return Some([b"#!", interpreter.as_bytes(), b"\n", rest].concat());
    }
    // A path that is too long for a first line: `#!/bin/sh`, then a line that is a program to sh and a text to Python
    // (distlib, scripts.py, `_build_shebang`).
    let (second, rest) = split_line(rest);
    let (third, rest) = split_line(rest);
    let wraps = first == b"/bin/sh" && second.starts_with(b"'''exec' ") && third == b"' '''";
    wraps.then(|| [b"#!", interpreter.as_bytes(), b"\n", rest].concat())
}

/// The first line without its end, and what is behind it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, b""),
    }
}

/// A path whose last part is `python`, with a version or without.
fn is_python(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let line = line.trim();
    let name = line.rsplit('/').next().unwrap_or_default();
    let version = name.strip_prefix("python");
    line.starts_with('/')
        && version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// A RECORD (PEP 376, PEP 627) in the order of its paths, without files that are left out, and with what `changed` gives
/// for files that were changed.
pub(super) fn record<'c>(text: &str, changed: impl Fn(&str) -> Option<&'c [u8]>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        // Only the path can have commas in it.
        let path = line.rsplitn(3, ',').nth(2).unwrap_or(line);
        let plain = path.trim_matches('"');
        if is_left_out(plain) {
            continue;
        }
        lines.push(match changed(plain) {
            Some(bytes) => {
                let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(bytes));
                format!("{path},sha256={digest},{}", bytes.len())
            }
            None => line.to_owned(),
        });
    }
    lines.sort();
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(script: &str) -> Option<String> {
        with_interpreter(script.as_bytes(), "/usr/bin/python3")
            .map(|script| String::from_utf8(script).unwrap())
    }

    #[test]
    fn scripts_get_the_interpreter_of_the_base() {
        for first in [
            "#!/root/.pyenv/versions/3.11.7/bin/python\n",
            "#!/home/me/venv/bin/python3.11\n",
            "#!/bin/sh\n'''exec' \"/a path/that is long/bin/python3\" \"$0\" \"$@\"\n' '''\n",
        ] {
            let script = format!("{first}import sys\nsys.exit(0)\n");
            assert_eq!(rewritten(&script).unwrap(), "#!/usr/bin/python3\nimport sys\nsys.exit(0)\n");
        }
        for other in ["#!/bin/sh\necho\n", "#!/usr/bin/env bash\n", "\x7fELF", "", "#!/bin/pythonic\n"] {
            assert_eq!(rewritten(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_is_sorted_and_tells_of_changed_scripts() {
        let text = "b.py,sha256=x,1\nbin/tool,sha256=y,2\n\"a,b.py\",sha256=z,3\np-1.dist-info/direct_url.json,sha256=w,4\n\
                    p-1.dist-info/RECORD,,\n";
        let record = record(text, |path| (path == "bin/tool").then_some(&b"tool"[..]));
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(b"tool"));
        assert_eq!(
            record,
            format!(
                "\"a,b.py\",sha256=z,3\nb.py,sha256=x,1\nbin/tool,sha256={digest},4\np-1.dist-info/RECORD,,\n"
            )
        );
    }
}
