//! Packages that are on PyPI as sources alone, as far as sites ask for them. Engine docker compiles them, engine direct cannot.

use std::collections::BTreeSet;

use serde::Serialize;

/// A package without wheels.
struct Package {
    /// `psycopg-c` is what `psycopg[c]` installs.
    name: &'static str,
    /// What has wheels and does the same.
    instead: Option<&'static str>,
    /// The Debian packages that it is compiled with.
    build: &'static [&'static str],
    /// The Debian packages that it runs with.
    run: &'static [&'static str],
}

const PACKAGES: [Package; 5] = [
    Package {
        name: "mysqlclient",
        instead: None,
        build: &["default-libmysqlclient-dev", "pkgconf"],
        run: &["libmariadb3"],
    },
    Package { name: "psycopg-c", instead: Some("psycopg[binary]"), build: &["libpq-dev"], run: &["libpq5"] },
    Package { name: "psycopg2", instead: Some("psycopg2-binary"), build: &["libpq-dev"], run: &["libpq5"] },
    Package {
        name: "python-ldap",
        instead: None,
        build: &["libldap-dev", "libsasl2-dev"],
        run: &["libldap2"],
    },
    Package { name: "uwsgi", instead: Some("pyuwsgi"), build: &[], run: &[] },
];
/// What each of them is compiled with.
const COMPILER: [&str; 3] = ["gcc", "libc6-dev", "python3-dev"];

impl Package {
    fn shown(&self) -> &'static str {
        if self.name == "psycopg-c" { "psycopg[c]" } else { self.name }
    }
}

/// What a Dockerfile installs for them.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Compiled {
    /// The packages, in words.
    packages: String,
    /// Debian packages for the stage that compiles.
    build: String,
    /// Debian packages for the image; may be none.
    run: String,
}

impl Compiled {
    /// For those among the `named` packages; `None` when there are none.
    pub(super) fn of(named: &BTreeSet<String>) -> Option<Compiled> {
        let found: Vec<Package> = among(named).collect();
        if found.is_empty() {
            return None;
        }
        let build = found.iter().flat_map(|package| package.build).chain(&COMPILER);
        let run = found.iter().flat_map(|package| package.run);
        Some(Compiled {
            packages: found.iter().map(Package::shown).collect::<Vec<_>>().join(", "),
            build: once(build),
            run: once(run),
        })
    }
}

/// Each of them, one time.
fn once<'p>(packages: impl Iterator<Item = &'p &'static str>) -> String {
    packages.copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
}

/// Why engine direct cannot install some of the `named` packages.
pub fn without_wheels(named: &BTreeSet<String>) -> Vec<String> {
    let told = among(named).map(|package| match package.instead {
        Some(instead) => format!("{} has no wheels: require {instead} instead", package.shown()),
        None => format!("{} has no wheels", package.shown()),
    });
    told.collect()
}

/// Whether a Dockerfile installs a compiler.
pub fn has_compiler(dockerfile: &str) -> bool {
    let steps = dockerfile.lines().filter(|line| !line.trim_start().starts_with('#'));
    steps.flat_map(str::split_whitespace).any(|word| ["gcc", "build-essential", "clang"].contains(&word))
}

fn among(named: &BTreeSet<String>) -> impl Iterator<Item = Package> {
    PACKAGES.into_iter().filter(|package| named.contains(package.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn packages_without_wheels_are_told_with_what_has_some() {
        assert_eq!(
            without_wheels(&named(&["django", "psycopg", "psycopg-c", "uwsgi"])),
            [
                "psycopg[c] has no wheels: require psycopg[binary] instead",
                "uwsgi has no wheels: require pyuwsgi instead"
            ]
        );
        assert_eq!(without_wheels(&named(&["mysqlclient"])), ["mysqlclient has no wheels"]);
        assert_eq!(without_wheels(&named(&["psycopg", "psycopg2-binary"])), [] as [String; 0]);
    }

    #[test]
    fn a_dockerfile_installs_what_they_are_compiled_and_run_with_once() {
        assert_eq!(Compiled::of(&named(&["django", "psycopg2-binary"])), None);
        let compiled = Compiled::of(&named(&["psycopg-c", "psycopg2"])).unwrap();
        assert_eq!(compiled.packages, "psycopg[c], psycopg2");
        assert_eq!(compiled.build, "gcc libc6-dev libpq-dev python3-dev");
        assert_eq!(compiled.run, "libpq5");
        assert_eq!(Compiled::of(&named(&["uwsgi"])).unwrap().run, "");
    }
}
