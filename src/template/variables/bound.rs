//! What names stand for, as far as it leads to the environment.

use std::collections::BTreeMap;

use ruff_python_ast::{Arguments, Expr};

use super::Kind;
use super::known::Known;

/// Whose `Env` it is: they take defaults at different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    DjangoEnviron,
    Environs,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bound {
    Module(String),
    /// `os.environ`
    Environ,
    /// `os.getenv`
    Getenv,
    /// The class `Env`.
    EnvClass(Library),
    /// One of that class, with the defaults that it was made with.
    Env(Library, BTreeMap<String, Option<Known>>),
    /// A method of it, by which text is read as something.
    Method(Library, BTreeMap<String, Option<Known>>, String),
    /// decouple's `config`.
    Config,
    /// What makes another one.
    ConfigClass,
    /// What django-split-settings runs files by.
    Include,
    /// A function of the project's own.
    Helper(Helper),
    /// `dict.get` and the like of `os.environ`.
    EnvironMethod(String),
    Value(Known),
}

/// The names of a module.
pub(super) type Scope = BTreeMap<String, Bound>;

impl Bound {
    /// What a module of a library has under this name.
    pub(super) fn of_library(module: &str, name: &str) -> Option<Bound> {
        Some(match (module, name) {
            ("os", "environ") => Bound::Environ,
            ("os", "getenv") => Bound::Getenv,
            ("environ", "Env" | "FileAwareEnv") => Bound::EnvClass(Library::DjangoEnviron),
            ("environs", "Env" | "FileAwareEnv") => Bound::EnvClass(Library::Environs),
            ("environs", "env") => Bound::Env(Library::Environs, BTreeMap::new()),
            ("split_settings.tools", "include") => Bound::Include,
            ("decouple", "config") => Bound::Config,
            ("decouple", "Config" | "AutoConfig") => Bound::ConfigClass,
            _ => return None,
        })
    }

    /// What it has under this name.
    pub(super) fn attribute(&self, name: &str) -> Option<Bound> {
        Some(match self {
            Bound::Environ => Bound::EnvironMethod(name.to_owned()),
            Bound::Env(library, defaults) => Bound::Method(*library, defaults.clone(), name.to_owned()),
            _ => return None,
        })
    }
}

/// A function that reads the variable which its first parameter names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    /// That parameter.
    pub(super) name: String,
    /// The parameter that stands for an absent variable: its place and its name.
    pub(super) default: Option<(usize, String)>,
    /// What an absent variable is without that, as far as it is known; `None` when the function fails.
    pub(super) absent: Option<Option<Known>>,
}

impl Helper {
    fn asked(&self, arguments: &Arguments, name_of: impl Fn(&Expr) -> Option<String>) -> Option<Asked> {
        let default = self.default.as_ref();
        let default =
            default.and_then(|(at, name)| arguments.args.get(*at).or_else(|| named(arguments, name)));
        Some(Asked {
            name: name_of(arguments.args.first().or_else(|| named(arguments, &self.name))?)?,
            kind: Kind::Text,
            absent: default.map_or(Absent::Raises, |default| Absent::Made(default.clone())),
            scheme: self.absent.clone(),
        })
    }
}

/// A variable as it is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What happens when it is absent.
    pub(super) absent: Absent,
    /// What stands for it then, when `Env` was made with it, as far as that is known.
    pub(super) scheme: Option<Option<Known>>,
}

/// What asking for a variable does when that is absent.
#[derive(Debug)]
pub(super) enum Absent {
    /// It fails.
    Fails,
    /// It fails, with what the project raises.
    Raises,
    /// It is `None`.
    Nothing,
    /// It is this.
    Default(Expr),
    /// It is this, or what a function makes of it.
    Made(Expr),
    /// It may be something.
    Somehow,
}

/// What a call of `function` with `arguments` asks the environment for.
pub(super) fn asked(function: &Bound, arguments: &Arguments) -> Option<Asked> {
    asked_by(function, arguments, |name| Some(name.as_string_literal_expr()?.value.to_str().to_owned()))
}

/// The same, with what gives the name that an expression stands for.
pub(super) fn asked_by(
    function: &Bound,
    arguments: &Arguments,
    name_of: impl Fn(&Expr) -> Option<String>,
) -> Option<Asked> {
    let optional = || {
        let name = name_of(arguments.args.first()?)?;
        let default = named(arguments, "default").or_else(|| arguments.args.get(1));
        let absent = default.map_or(Absent::Nothing, |default| Absent::Default(default.clone()));
        Some(Asked { name, kind: Kind::Text, absent, scheme: None })
    };
    let (defaults, kind, cast_at, default_at, otherwise) = match function {
        Bound::Helper(helper) => return helper.asked(arguments, name_of),
        Bound::Getenv => return optional(),
        Bound::EnvironMethod(method) if method == "get" => return optional(),
        Bound::EnvironMethod(method) if method == "__getitem__" => (None, Kind::Text, None, usize::MAX, None),
        Bound::Config => (None, Kind::Text, Some(2), 1, None),
        Bound::Env(Library::DjangoEnviron, defaults) => (Some(defaults), Kind::Text, Some(1), 2, None),
        Bound::Env(Library::Environs, defaults) => (Some(defaults), Kind::Text, None, 1, None),
        Bound::Method(library, defaults, method) => {
            let (kind, otherwise) = method_kind(method)?;
            let casts = matches!(method.as_str(), "get_value" | "list" | "tuple" | "dict");
            let (cast_at, default_at) = match library {
                Library::DjangoEnviron if casts => (Some(1), 2),
                _ => (None, 1),
            };
            let otherwise = otherwise.filter(|_| *library == Library::DjangoEnviron);
            (Some(defaults), kind, cast_at, default_at, otherwise)
        }
        _ => return None,
    };
    let name = match arguments.args.first() {
        Some(name) => name_of(name)?,
        None => match named(arguments, "var").or_else(|| named(arguments, "name")) {
            Some(name) => name_of(name)?,
            None => otherwise?.to_owned(),
        },
    };
    let cast = cast_at.and_then(|at| arguments.args.get(at));
    let cast = cast.or_else(|| named(arguments, "cast")).and_then(kind_of);
    // Keywords from somewhere may hold a default.
    let somehow = arguments.keywords.iter().any(|keyword| keyword.arg.is_none());
    let default = named(arguments, "default").or_else(|| arguments.args.get(default_at));
    let scheme = defaults.and_then(|defaults| defaults.get(&name)).cloned();
    Some(Asked {
        kind: cast.filter(|_| kind == Kind::Text).unwrap_or(kind),
        absent: match default {
            Some(default) => Absent::Default(default.clone()),
            None if somehow => Absent::Somehow,
            None => Absent::Fails,
        },
        scheme,
        name,
    })
}

/// What `Env(DEBUG=(bool, False))` says of its variables.
pub(super) fn scheme(
    arguments: &Arguments,
    value: impl Fn(&Expr) -> Option<Known>,
) -> BTreeMap<String, Option<Known>> {
    let pairs = arguments.keywords.iter().filter_map(|keyword| {
        let pair = keyword.value.as_tuple_expr()?;
        Some((keyword.arg.as_ref()?.to_string(), value(pair.elts.get(1)?)))
    });
    pairs.collect()
}

/// The argument with this keyword.
pub(super) fn named<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a Expr> {
    arguments.find_keyword(name).map(|keyword| &keyword.value)
}

/// What a method of `Env` reads, and the name that django-environ takes when none is given.
fn method_kind(method: &str) -> Option<(Kind, Option<&'static str>)> {
    Some(match method {
        "str" | "unicode" | "bytes" | "url" | "path" | "get_value" | "date" | "datetime" | "time"
        | "timedelta" | "uuid" | "log_level" | "enum" => (Kind::Text, None),
        "bool" => (Kind::Bool, None),
        "int" | "float" | "decimal" => (Kind::Number, None),
        "list" | "tuple" => (Kind::List, None),
        "dict" => (Kind::Dict, None),
        "json" => (Kind::Json, None),
        "db" | "db_url" | "dj_db_url" => (Kind::Database, Some("DATABASE_URL")),
        "cache" | "cache_url" | "dj_cache_url" => (Kind::Cache, Some("CACHE_URL")),
        "email" | "email_url" | "dj_email_url" => (Kind::Email, Some("EMAIL_URL")),
        "search" | "search_url" => (Kind::Search, Some("SEARCH_URL")),
        "channels" | "channels_url" => (Kind::Channels, Some("CHANNELS_URL")),
        _ => return None,
    })
}

/// What a function makes of text, or a type that is named: `int`, `Csv()`, `dj_database_url.parse`, `[str]`.
pub(super) fn kind_of(function: &Expr) -> Option<Kind> {
    let (module, name) = match function {
        Expr::Name(name) => ("", name.id.as_str()),
        Expr::Attribute(attribute) => {
            let module = attribute.value.as_name_expr().map_or("", |name| name.id.as_str());
            (module, attribute.attr.as_str())
        }
        Expr::Call(call) => return kind_of(&call.func).filter(|kind| *kind == Kind::List),
        Expr::List(_) | Expr::Tuple(_) => return Some(Kind::List),
        Expr::Dict(_) => return Some(Kind::Dict),
        _ => return None,
    };
    Some(match (module, name) {
        ("", "int" | "float" | "Decimal") | ("decimal", "Decimal") => Kind::Number,
        ("", "bool" | "strtobool") => Kind::Bool,
        ("", "list" | "tuple" | "Csv") | ("decouple", "Csv") => Kind::List,
        ("", "dict") => Kind::Dict,
        ("json", "loads") => Kind::Json,
        ("", "db_url") | ("dj_database_url", "parse") => Kind::Database,
        _ => return None,
    })
}
