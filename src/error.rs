//! The one error of the library: what went wrong, what to do about it, and which exit code it gives.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is. Each gives one exit code, and [`Kind::exit_code`] is the only table of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The work was tried and failed; what ran before still runs.
    Failed,
    /// The command line, imgforge.toml or a file that it names is wrong. Nothing was tried.
    Config,
    /// The deployment failed and the service is back on what it ran before.
    RolledBack,
    /// Time ran out while something else was still at work; its state is unknown.
    TimedOut,
    /// Another release of the same project holds the lock.
    Locked,
    /// A check that comes before any change said no.
    Refused,
    /// The container that `run` started ended with this code.
    Container(u8),
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Config => 2,
            Kind::RolledBack => 3,
            Kind::TimedOut => 4,
            Kind::Locked => 5,
            Kind::Refused => 6,
            Kind::Container(code) => code,
        }
    }

    /// The word for this kind in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Config => "config",
            Kind::RolledBack => "rolled-back",
            Kind::TimedOut => "timed-out",
            Kind::Locked => "locked",
            Kind::Refused => "refused",
            Kind::Container(_) => "container",
        }
    }
}

/// Where in a text file an error is: the text itself and the bytes that are wrong.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file's path as people typed it.
    pub file: String,
    /// The whole text of the file.
    pub text: String,
    /// The bytes of `text` that are wrong.
    pub span: std::ops::Range<usize>,
    /// A few words printed under those bytes.
    pub label: String,
}

impl Place {
    /// Line and column of the first wrong byte, both from 1; the column counts characters.
    pub fn line_column(&self) -> (usize, usize) {
        let start = self.span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

struct Inner {
    kind: Kind,
    what: String,
    help: Option<String>,
    place: Option<Place>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What went wrong in plain words, with the next thing to do.
///
/// Invariant: no text in it ever holds a secret value. Whoever adds context adds names, sizes and digests.
pub struct Error(Box<Inner>);

impl Error {
    /// An error of the given kind.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, what: what.into(), help: None, place: None, source: None }))
    }

    /// The work failed.
    pub fn failed(what: impl Into<String>) -> Self {
        Error::new(Kind::Failed, what)
    }

    /// Something that the user wrote is wrong.
    pub fn config(what: impl Into<String>) -> Self {
        Error::new(Kind::Config, what)
    }

    /// A check before any change said no.
    pub fn refused(what: impl Into<String>) -> Self {
        Error::new(Kind::Refused, what)
    }

    /// Adds what to do next; best a command to type. A later call replaces an earlier one.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds where in a file it is.
    pub fn place(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Adds the cause.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error told as part of something larger: `what` comes first, the old text becomes the cause.
    /// Kind, help and place stay.
    pub fn context(self, what: impl Into<String>) -> Self {
        let kind = self.kind();
        let help = self.0.help.clone();
        let place = self.0.place.clone();
        let mut outer = Error::new(kind, what).because(self);
        outer.0.help = help;
        outer.0.place = place;
        outer
    }

    /// The same error under another kind.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error of something that only looked: nothing was changed yet, so a failure is a refusal. Faults of the
    /// configuration stay what they are.
    pub fn before_any_change(self) -> Self {
        match self.kind() {
            Kind::Failed => self.with_kind(Kind::Refused),
            _ => self,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What went wrong, without its causes.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// What to do about it.
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Where in a file it is.
    pub fn located(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// The causes, outermost first, each once: a cause that only repeats the words before it is left out.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut said = self.0.what.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !text.is_empty() && !said.contains(&text) {
                said.push_str(&text);
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.0.kind.exit_code())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.0.what, self.0.kind.name())?;
        for cause in self.causes() {
            write!(f, "\n  because: {cause}")?;
        }
        match &self.0.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// File errors keep the path in their text (fs-err), so they need no more words than these.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::failed(error.to_string()).io_help(&error)
    }
}

impl Error {
    fn io_help(self, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => {
                self.help("the disk is full: free some space and run the same command again")
            }
            std::io::ErrorKind::PermissionDenied => self.help("check who owns the file and its mode"),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_leave_out_words_already_said() {
        let io = std::io::Error::other("no route to host");
        let error = Error::failed("cannot reach registry: no route to host").because(io);
        assert!(error.causes().is_empty());
    }

    #[test]
    fn context_keeps_kind_and_help() {
        let error = Error::refused("no such service").help("create it").context("cannot deploy");
        assert_eq!(error.kind(), Kind::Refused);
        assert_eq!(error.help_text(), Some("create it"));
        assert_eq!(error.causes(), ["no such service"]);
    }

    #[test]
    fn line_and_column_count_from_one() {
        let place =
            Place { file: "f".into(), text: "a = 1\nbé = 2\n".into(), span: 9..10, label: String::new() };
        assert_eq!(place.line_column(), (2, 3));
    }
}
