//! moby's published cases (moby/patternmatcher: `patternmatcher_test.go`, `ignorefile/ignorefile_test.go`).

use super::*;

fn matches(patterns: &[&str], path: &str) -> Result<bool> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Ok(Ignore::new(&patterns)?.matches(path))
}

const WHEEL: &str = "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl";

/// `TestMatches`
const MATCHES: &[(&str, &str, bool)] = &[
    ("**", "file", true),
    ("**", "file/", true),
    ("**/", "file", true),
    ("**/", "file/", true),
    ("**", "/", true),
    ("**/", "/", true),
    ("**", "dir/file", true),
    ("**/", "dir/file", true),
    ("**", "dir/file/", true),
    ("**/", "dir/file/", true),
    ("**/**", "dir/file", true),
    ("**/**", "dir/file/", true),
    ("dir/**", "dir/file", true),
    ("dir/**", "dir/file/", true),
    ("dir/**", "dir/dir2/file", true),
    ("dir/**", "dir/dir2/file/", true),
    ("**/dir", "dir", true),
    ("**/dir", "dir/file", true),
    ("**/dir2/*", "dir/dir2/file", true),
    ("**/dir2/*", "dir/dir2/file/", true),
    ("**/dir2/**", "dir/dir2/dir3/file", true),
    ("**/dir2/**", "dir/dir2/dir3/file/", true),
    ("**file", "file", true),
    ("**file", "dir/file", true),
    ("**/file", "dir/file", true),
    ("**file", "dir/dir/file", true),
    ("**/file", "dir/dir/file", true),
    ("**/file*", "dir/dir/file", true),
    ("**/file*", "dir/dir/file.txt", true),
    ("**/file*txt", "dir/dir/file.txt", true),
    ("**/file*.txt", "dir/dir/file.txt", true),
    ("**/file*.txt*", "dir/dir/file.txt", true),
    ("**/**/*.txt", "dir/dir/file.txt", true),
    ("**/**/*.txt2", "dir/dir/file.txt", false),
    ("**/*.txt", "file.txt", true),
    ("**/**/*.txt", "file.txt", true),
    ("a**/*.txt", "a/file.txt", true),
    ("a**/*.txt", "a/dir/file.txt", true),
    ("a**/*.txt", "a/dir/dir/file.txt", true),
    ("a/*.txt", "a/dir/file.txt", false),
    ("a/*.txt", "a/file.txt", true),
    ("a/*.txt**", "a/file.txt", true),
    ("a[b-d]e", "ae", false),
    ("a[b-d]e", "ace", true),
    ("a[b-d]e", "aae", false),
    ("a[^b-d]e", "aze", true),
    (".*", ".foo", true),
    (".*", "foo", false),
    ("abc.def", "abcdef", false),
    ("abc.def", "abc.def", true),
    ("abc.def", "abcZdef", false),
    ("abc?def", "abcZdef", true),
    ("abc?def", "abcdef", false),
    ("a\\\\", "a\\", true),
    ("**/foo/bar", "foo/bar", true),
    ("**/foo/bar", "dir/foo/bar", true),
    ("**/foo/bar", "dir/dir2/foo/bar", true),
    ("abc/**", "abc", false),
    ("abc/**", "abc/def", true),
    ("abc/**", "abc/def/ghi", true),
    ("**/.foo", ".foo", true),
    ("**/.foo", "bar.foo", false),
    ("a(b)c/def", "a(b)c/def", true),
    ("a(b)c/def", "a(b)c/xyz", false),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
    (WHEEL, WHEEL, true),
    ("dist/*.whl", WHEEL, true),
];

/// `TestMatch`, which has the cases of Go's `filepath.Match`; here a folder above counts too.
const GO_MATCHES: &[(&str, &str, bool)] = &[
    ("abc", "abc", true),
    ("*", "abc", true),
    ("*c", "abc", true),
    ("a*", "a", true),
    ("a*", "abc", true),
    ("a*", "ab/c", true),
    ("a*/b", "abc/b", true),
    ("a*/b", "a/c/b", false),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
    ("a*b?c*x", "abxbbxdbxebxczzx", true),
    ("a*b?c*x", "abxbbxdbxebxczzy", false),
    ("ab[c]", "abc", true),
    ("ab[b-d]", "abc", true),
    ("ab[e-g]", "abc", false),
    ("ab[^c]", "abc", false),
    ("ab[^b-d]", "abc", false),
    ("ab[^e-g]", "abc", true),
    ("a\\*b", "a*b", true),
    ("a\\*b", "ab", false),
    ("a?b", "a☺b", true),
    ("a[^a]b", "a☺b", true),
    ("a???b", "a☺b", false),
    ("a[^a][^a][^a]b", "a☺b", false),
    ("[a-ζ]*", "α", true),
    ("*[a-ζ]", "A", false),
    ("a?b", "a/b", false),
    ("a*b", "a/b", false),
    ("[\\]a]", "]", true),
    ("[\\-]", "-", true),
    ("[x\\-]", "x", true),
    ("[x\\-]", "-", true),
    ("[x\\-]", "z", false),
    ("[\\-x]", "x", true),
    ("[\\-x]", "-", true),
    ("[\\-x]", "a", false),
    ("*x", "xxx", true),
];

const MALFORMED: &[&str] =
    &["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[b-a]", "!"];

/// `TestMatches` with several patterns, and `TestExclusionPatternMatches…`.
const SEVERAL: &[(&[&str], &str, bool)] = &[
    (&["**", "!util/docker/web"], "util/docker/web/foo", false),
    (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
    (&["**", "!dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl"], WHEEL, false),
    (&["**", "!dist/*.whl"], WHEEL, false),
    (&["fileutils.go"], "fileutils.go", true),
    (&["!fileutils.go", "*.go"], "fileutils.go", true),
    (&["*.go", "!fileutils.go"], "fileutils.go", false),
    (&["docs", "!docs/README.md"], "docs/README.md", false),
    (&["docs/", "!docs/README.md"], "docs/README.md", false),
    (&["docs/*", "!docs/README.md"], "docs/README.md", false),
    (&["*.go"], "fileutils.go", true),
    (&["*."], "fileutils.go", false),
    (&["*.c"], "fileutils.go", false),
    (&["  docs  "], "docs", true),
    (&[""], "docs", false),
    (&["docs/../config"], "config/a", true),
    (&["docs"], "doc", false),
];

#[test]
fn matches_as_moby_does() {
    for (pattern, path, want) in MATCHES.iter().chain(GO_MATCHES) {
        assert_eq!(matches(&[pattern], path).unwrap(), *want, "{pattern:?} on {path:?}");
    }
}

#[test]
fn last_matching_pattern_decides() {
    for (patterns, path, want) in SEVERAL {
        assert_eq!(matches(patterns, path).unwrap(), *want, "{patterns:?} on {path:?}");
    }
}

#[test]
fn malformed_patterns_are_refused() {
    for pattern in MALFORMED {
        assert!(matches(&[pattern], "a").is_err(), "{pattern:?}");
    }
    let error = Ignore::parse(b"ok\n[x-\n", ".dockerignore").unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Config);
    assert_eq!(error.causes(), ["the pattern \"[x-\" is malformed"]);
}

/// `TestReadAll`
#[test]
fn lines_are_read_as_moby_reads_them() {
    let text = "test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /inverted/abs/path\n!\n! \n";
    let want = ["test1", "test2", "a/file/here", "lastfile", "!inverted/abs/path", "!", "!"];
    assert_eq!(read_lines(text.as_bytes()), want);
    assert_eq!(read_lines(b"\xEF\xBB\xBFfirst\r\nsecond/\r\n"), ["first", "second"]);
    assert_eq!(read_lines(b" # not a comment\n./a//b/../c\n/\n"), ["# not a comment", "a/c", "/"]);
    assert!(read_lines(b"").is_empty());
}

#[test]
fn ignored_folders_are_entered_only_where_something_may_come_back() {
    let ignore = |text: &str| Ignore::parse(text.as_bytes(), "f").unwrap();
    let one = ignore("*\n!src/app\n");
    assert!(one.may_take_back_below("src"));
    assert!(!one.may_take_back_below("docs"));
    assert!(!one.may_take_back_below("sr"));
    let anywhere = ignore("*\n!**/*.py\n");
    assert!(anywhere.may_take_back_below("deep/down"));
    let below = ignore("*\n!src/*/keep\n");
    assert!(below.may_take_back_below("src/a"));
    assert!(!below.may_take_back_below("other"));
    assert!(!ignore("a\nb\n").may_take_back_below("a"));
}
