//! What a variable of the environment is given, on this machine, in production and on a developer's: guessed where a wrong
//! guess does no harm.

use serde::Serialize;

use super::variables::{Kind, Variable};

/// What values are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) database: &'a str,
    pub(super) database_password: &'a str,
    pub(super) broker_password: &'a str,
    pub(super) secret_key: &'a str,
}

/// A variable with its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Value {
    pub(super) name: String,
    /// For the containers on this machine.
    pub(super) local: String,
    /// For production: what is to be filled in, in capitals.
    pub(super) sample: String,
    /// For a developer.
    pub(super) developer: String,
    /// Whether they are what the variable is for, and not only something that can be read.
    pub(super) is_known: bool,
}

/// What a variable is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    SecretKey,
    Debug,
    Hosts,
    Origins,
    AdminUrl,
    Database(Part),
    DatabaseUrl,
    CacheNode,
    CacheUrl,
    BrokerUrl,
    MailUrl,
    Unknown(Kind),
}

/// A part of what a database is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Engine,
    Name,
    User,
    Password,
    Host,
    Port,
}

/// Whether it is known what a variable is for.
pub(super) fn is_known(variable: &Variable) -> bool {
    !matches!(Role::of(variable), Role::Unknown(_))
}

impl Value {
    /// The values of a variable.
    pub(super) fn of(variable: &Variable, parts: &Parts<'_>) -> Value {
        let role = Role::of(variable);
        let Parts { database, database_password, broker_password, secret_key } = parts;
        let name = variable.name.clone();
        let capitals = name.to_uppercase();
        let [local, sample, developer]: [String; 3] = match role {
            Role::SecretKey => {
                [(*secret_key).into(), "SECRET_KEY".into(), "django-insecure-for-development-only".into()]
            }
            Role::Debug => ["False", "False", "True"].map(Into::into),
            Role::Hosts => ["localhost,127.0.0.1", ".example.com", "localhost,127.0.0.1"].map(Into::into),
            Role::Origins => {
                let ports = |port| format!("http://localhost:{port},http://127.0.0.1:{port}");
                [ports(8080), "https://www.example.com".into(), ports(8000)]
            }
            Role::AdminUrl => ["admin/"; 3].map(Into::into),
            Role::Database(part) => match part {
                Part::Engine => {
                    let postgres = "django.db.backends.postgresql";
                    [postgres, postgres, "django.db.backends.sqlite3"].map(Into::into)
                }
                Part::Name => [*database, *database, "db.sqlite3"].map(Into::into),
                Part::User => [*database; 3].map(Into::into),
                Part::Password => [*database_password, "DATABASE_PASSWORD", ""].map(Into::into),
                Part::Host => ["postgres", "DATABASE_ENDPOINT", "localhost"].map(Into::into),
                Part::Port => ["5432"; 3].map(Into::into),
            },
            Role::DatabaseUrl => {
                let url = |password, host| format!("postgres://{database}:{password}@{host}:5432/{database}");
                let developer = "sqlite:///db.sqlite3".to_owned();
                [
                    url(*database_password, "postgres"),
                    url("DATABASE_PASSWORD", "DATABASE_ENDPOINT"),
                    developer,
                ]
            }
            Role::CacheNode => ["memcached:11211", "CACHE_NODE_1:11211", "127.0.0.1:11211"].map(Into::into),
            Role::CacheUrl => {
                ["pymemcache://memcached:11211", "pymemcache://CACHE_NODE_1:11211", "locmemcache://"]
                    .map(Into::into)
            }
            Role::BrokerUrl => [
                format!("amqp://{database}:{broker_password}@rabbitmq:5672"),
                format!("amqps://{database}:BROKER_PASSWORD@BROKER_ENDPOINT:5671"),
                "memory://".into(),
            ],
            Role::MailUrl => {
                ["consolemail://", "smtp+tls://MAIL_USER:MAIL_PASSWORD@MAIL_HOST:587", "consolemail://"]
                    .map(Into::into)
            }
            Role::Unknown(kind) => {
                let readable = match kind {
                    _ if is_redis(&capitals) && capitals.ends_with("_URL") => "redis://redis:6379/0",
                    Kind::Bool => "False",
                    Kind::Number => "0",
                    Kind::Json => "{}",
                    Kind::Search => "simple://",
                    Kind::Channels => "inmemory://",
                    _ => "",
                };
                [readable.into(), capitals, readable.into()]
            }
        };
        Value { name, local, sample, developer, is_known: is_known(variable) }
    }
}

impl Role {
    fn of(variable: &Variable) -> Role {
        let by_kind = match variable.kind {
            Kind::Database => Some(Role::DatabaseUrl),
            Kind::Cache => Some(Role::CacheUrl),
            Kind::Email => Some(Role::MailUrl),
            Kind::Search | Kind::Channels | Kind::Json | Kind::Dict => Some(Role::Unknown(variable.kind)),
            Kind::Text | Kind::Bool | Kind::Number | Kind::List => None,
        };
        let by_setting = || Role::of_setting(variable.setting.as_deref()?, variable.key.as_deref());
        // None of the template's services is one.
        if by_kind.is_none() && is_redis(&variable.name.to_uppercase()) {
            return Role::Unknown(variable.kind);
        }
        let by_name = || Role::of_name(&variable.name.to_uppercase());
        by_kind.or_else(by_setting).or_else(by_name).unwrap_or(Role::Unknown(variable.kind))
    }

    /// What becomes this setting, or this part of it.
    fn of_setting(setting: &str, key: Option<&str>) -> Option<Role> {
        Some(match (setting, key) {
            ("SECRET_KEY", None) => Role::SecretKey,
            ("DEBUG", None) => Role::Debug,
            ("ALLOWED_HOSTS", None) => Role::Hosts,
            ("CSRF_TRUSTED_ORIGINS", None) => Role::Origins,
            ("ADMIN_URL", None) => Role::AdminUrl,
            ("CELERY_BROKER_URL" | "BROKER_URL", None) => Role::BrokerUrl,
            ("DATABASES", Some(key)) => Role::Database(Part::of(key)?),
            ("CACHES", Some("LOCATION")) => Role::CacheNode,
            _ => return None,
        })
    }

    /// What is called this.
    fn of_name(name: &str) -> Option<Role> {
        let plain = name.strip_prefix("DJANGO_").unwrap_or(name);
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        Some(match plain {
            "SECRET_KEY" | "SECRET" | "APP_SECRET_KEY" | "SITE_SECRET_KEY" => Role::SecretKey,
            "DEBUG" => Role::Debug,
            "DB_URL" | "POSTGRES_URL" | "POSTGRESQL_URL" => Role::DatabaseUrl,
            _ if ends(&["ALLOWED_HOSTS"]) => Role::Hosts,
            _ if ends(&["TRUSTED_ORIGINS", "ALLOWED_ORIGINS"]) => Role::Origins,
            _ if ends(&["ADMIN_URL", "ADMIN_PATH"]) => Role::AdminUrl,
            _ if ends(&["DATABASE_URL"]) => Role::DatabaseUrl,
            _ if ends(&["BROKER_URL", "AMQP_URL", "RABBITMQ_URL"]) => Role::BrokerUrl,
            _ if ends(&["CACHE_URL"]) => Role::CacheUrl,
            _ if name.split('_').any(|word| word.starts_with("MEMCACHE")) => Role::CacheNode,
            _ => Role::Database(Part::of_name(plain)?),
        })
    }
}

impl Part {
    /// The part with this key in DATABASES.
    fn of(key: &str) -> Option<Part> {
        Some(match key {
            "ENGINE" => Part::Engine,
            "NAME" => Part::Name,
            "USER" => Part::User,
            "PASSWORD" => Part::Password,
            "HOST" => Part::Host,
            "PORT" => Part::Port,
            _ => return None,
        })
    }

    /// `POSTGRES_USER`, `DB_HOST`, `RDS_DB_NAME`, `PGPASSWORD`.
    fn of_name(name: &str) -> Option<Part> {
        let first = ["POSTGRESQL", "POSTGRES", "DATABASE", "RDS", "SQL", "PG", "DB"];
        let mut rest = first.iter().find_map(|first| name.strip_prefix(first))?;
        rest = rest.strip_prefix("_DB_").or(rest.strip_prefix('_')).unwrap_or(rest);
        Some(match rest {
            "DB" | "NAME" | "DATABASE" => Part::Name,
            "USER" | "USERNAME" => Part::User,
            "PASSWORD" | "PASS" | "PASSWD" => Part::Password,
            "HOST" | "HOSTNAME" | "SERVER" => Part::Host,
            "PORT" => Part::Port,
            "ENGINE" => Part::Engine,
            _ => return None,
        })
    }
}

fn is_redis(name: &str) -> bool {
    name.split('_').any(|word| ["REDIS", "VALKEY"].contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts<'_> =
        Parts { database: "shop", database_password: "one", broker_password: "two", secret_key: "three" };

    fn value(name: &str, kind: Kind, setting: &str, key: &str) -> Value {
        let word = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        let variable = Variable { name: name.into(), kind, setting: word(setting), key: word(key) };
        Value::of(&variable, &PARTS)
    }

    #[test]
    fn names_and_places_tell_what_a_variable_is_for() {
        let cases = [
            ("DJANGO_SECRET_KEY", Kind::Text, "", "", "three"),
            ("KEY", Kind::Text, "SECRET_KEY", "", "three"),
            ("MAIN", Kind::Database, "DATABASES", "default", "postgres://shop:one@postgres:5432/shop"),
            ("DATABASE_URL", Kind::Text, "", "", "postgres://shop:one@postgres:5432/shop"),
            ("CELERY_BROKER_URL", Kind::Text, "", "", "amqp://shop:two@rabbitmq:5672"),
            ("QUEUE", Kind::Text, "CELERY_BROKER_URL", "", "amqp://shop:two@rabbitmq:5672"),
            ("REDIS_URL", Kind::Cache, "CACHES", "default", "pymemcache://memcached:11211"),
            ("MEMCACHED_NODES", Kind::List, "", "", "memcached:11211"),
            ("DJANGO_ALLOWED_HOSTS", Kind::List, "", "", "localhost,127.0.0.1"),
            ("DJANGO_ADMIN_URL", Kind::Text, "ADMIN_URL", "", "admin/"),
            ("DEBUG", Kind::Bool, "", "", "False"),
            ("POSTGRES_DB", Kind::Text, "", "", "shop"),
            ("PGPASSWORD", Kind::Text, "", "", "one"),
            ("RDS_DB_NAME", Kind::Text, "", "", "shop"),
            ("RDS_HOSTNAME", Kind::Text, "", "", "postgres"),
            ("SQL_PORT", Kind::Text, "", "", "5432"),
            ("WHERE", Kind::Text, "DATABASES", "HOST", "postgres"),
        ];
        for (name, kind, setting, key, local) in cases {
            let value = value(name, kind, setting, key);
            assert_eq!((value.local.as_str(), value.is_known), (local, true), "{name}");
        }
    }

    #[test]
    fn what_is_not_known_can_be_read_here_and_is_to_be_filled_in_elsewhere() {
        let cases = [
            ("SENTRY_DSN", Kind::Text, ""),
            ("STRIPE_SECRET_KEY", Kind::Text, ""),
            ("AWS_SECRET_ACCESS_KEY", Kind::Text, ""),
            ("DBPEDIA", Kind::Text, ""),
            ("pages", Kind::Number, "0"),
            ("FAST", Kind::Bool, "False"),
            ("LIMITS", Kind::Json, "{}"),
            ("ADMINS", Kind::List, ""),
            ("REDIS_URL", Kind::Text, "redis://redis:6379/0"),
        ];
        for (name, kind, local) in cases {
            let value = value(name, kind, "", "");
            assert_eq!((value.local.as_str(), value.is_known), (local, false), "{name}");
            assert_eq!((value.sample, value.developer), (name.to_uppercase(), local.to_owned()));
        }
    }

    #[test]
    fn no_password_leaves_this_machine() {
        for kind in [Kind::Text, Kind::Database, Kind::Cache, Kind::Email] {
            for name in ["SECRET_KEY", "DATABASE_URL", "POSTGRES_PASSWORD", "BROKER_URL"] {
                let Value { sample, developer, .. } = value(name, kind, "", "");
                for password in [PARTS.database_password, PARTS.broker_password, PARTS.secret_key] {
                    assert!(!sample.contains(password) && !developer.contains(password), "{name}: {sample}");
                }
            }
        }
    }
}
