//! The packages that the site needs on servers, besides its own.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::Result;

/// Pinned, so that the same sources give the same image. A project that names one of them keeps its own version.
const PACKAGES: [&str; 7] = [
    "gunicorn==27.0.1",
    "pyuwsgi==2.0.30.post1",
    "psycopg[binary]==3.3.9",
    "pymemcache==4.0.0",
    "celery==5.7.0",
    "django-storages[s3]==1.14.6",
    "Pillow==13.0.0",
];

/// How far requirements files that name one another are followed.
const DEPTH: usize = 5;

/// Those that the project does not name itself.
pub(super) fn missing(named: &BTreeSet<String>) -> Vec<&'static str> {
    let is_there = |name: &str| named.contains(name) || (name == "pyuwsgi" && named.contains("uwsgi"));
    PACKAGES.into_iter().filter(|package| !is_there(&name(package))).collect()
}

/// The packages that a requirements file and those that it names ask for.
///
/// # Errors
/// One cannot be read.
pub(super) fn named(file: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    collect(file, DEPTH, &mut names)?;
    Ok(names)
}

fn collect(file: &Path, depth: usize, names: &mut BTreeSet<String>) -> Result<()> {
    for line in fs_err::read_to_string(file)?.lines().map(str::trim) {
        let other = line.strip_prefix("-r").or_else(|| line.strip_prefix("--requirement"));
        if let Some(other) = other {
            let other = other.trim_start_matches(['=', ' ']).trim();
            let other = file.parent().unwrap_or(Path::new("")).join(other);
            // What is not there is pip's to refuse, with its own words.
            if depth > 0 && other.is_file() {
                collect(&other, depth - 1, names)?;
            }
        } else if line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let name = name(line);
            let extras = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            if name == "psycopg"
                && extras.is_some_and(|(extras, _)| extras.split(',').any(|extra| extra.trim() == "c"))
            {
                names.insert("psycopg-c".into());
            }
            names.insert(name);
        }
    }
    Ok(())
}

/// `Django[argon2]>=5` → `django` (PEP 503's normal form).
pub(super) fn name(requirement: &str) -> String {
    let end = requirement
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
        .unwrap_or(requirement.len());
    let name = requirement[..end].to_ascii_lowercase();
    let mut normal = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(part);
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_their_normal_form() {
        let lines = [
            ("Django==5.2", "django"),
            ("psycopg[binary]>=3", "psycopg"),
            ("Django_Storages ; python_version > '3'", "django-storages"),
            ("zope.interface @ https://example.com/z.whl", "zope-interface"),
        ];
        for (line, want) in lines {
            assert_eq!(name(line), want);
        }
    }

    #[test]
    fn an_extra_that_brings_another_package_is_named_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let names = |lines: &str| {
            let file = folder.path().join("requirements.txt");
            fs_err::write(&file, lines).unwrap();
            named(&file).unwrap().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names("psycopg[pool, c]==3.2\nuWSGI\n"), ["psycopg", "psycopg-c", "uwsgi"]);
        assert_eq!(names("psycopg[binary]\nmysqlclient==2.2  # [c]\n"), ["mysqlclient", "psycopg"]);
        assert!(!missing(&named(&folder.path().join("requirements.txt")).unwrap()).is_empty());
    }

    #[test]
    fn a_project_keeps_its_own_versions_also_of_files_that_name_others() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("requirements")).unwrap();
        let main = folder.path().join("requirements/production.txt");
        fs_err::write(&main, "-r base.txt\ngunicorn==22.0\n").unwrap();
        fs_err::write(folder.path().join("requirements/base.txt"), "# comment\nCelery>=5.4\n-e .\n").unwrap();
        let missing = missing(&named(&main).unwrap());
        assert_eq!(
            missing,
            [
                "pyuwsgi==2.0.30.post1",
                "psycopg[binary]==3.3.9",
                "pymemcache==4.0.0",
                "django-storages[s3]==1.14.6",
                "Pillow==13.0.0"
            ]
        );
    }
}
