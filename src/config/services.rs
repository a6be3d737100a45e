//! `service = "web"` or `service = ["web", "worker", "beat"]`.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// The services of a release, in the order in which they are switched. There is at least one.
#[derive(Debug, Clone)]
pub struct Services(Vec<Spanned<String>>);

impl Services {
    /// The names or ARNs, as written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|service| service.get_ref().as_str())
    }

    /// The same with their places.
    pub(super) fn written(&self) -> &[Spanned<String>] {
        &self.0
    }
}

/// What may stand there.
enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        // Not serde's `untagged`: that loses the places.
        impl<'de> Visitor<'de> for Read {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a service's name, or a list of names")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                match names.is_empty() {
                    true => Err(A::Error::custom("at least one service is wanted")),
                    false => Ok(OneOrMany::Many(names)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Services {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<OneOrMany>::deserialize(deserializer)?;
        let span = read.span();
        Ok(Services(match read.into_inner() {
            OneOrMany::One(name) => vec![Spanned::new(span, name)],
            OneOrMany::Many(names) => names,
        }))
    }
}
