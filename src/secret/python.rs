//! Finds settings that are not valid Python, without running them and without Python on this machine.

use ruff_python_parser::{LexicalErrorType, Mode, ParseErrorType, ParseOptions, parse};
use zeroize::Zeroizing;

use super::Secret;
use crate::error::{Error, Result};

/// CPython's own limit is 200 nested parentheses (`MAXSTACK` of its tokenizer); no settings file comes near.
const MAX_NESTING: usize = 200;
/// Enough for [`MAX_NESTING`] many times over. Only what is used of it becomes memory.
const STACK: usize = 64 << 20;

/// Checks that `source` is a Python module. `name` says which file it is.
///
/// # Errors
/// Line, column and the kind of mistake; never a word of the file.
pub fn check(source: &Secret, name: &str) -> Result<()> {
    let text = decode(source.expose()).map_err(|fault| fault.told(name))?;
    check_nesting(&text).map_err(|fault| fault.told(name))?;
    // On a stack of its own: the parser recurses, and an async worker's stack is small.
    let parsed = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let parsing = thread.spawn_scoped(scope, || syntax(&text))?;
        Ok::<_, std::io::Error>(parsing.join().expect("the parser does not panic"))
    })?;
    parsed.map_err(|fault| fault.told(name))
}

/// `Mode::Module` takes every version's grammar, so nothing is refused for being new.
fn syntax(text: &str) -> Result<(), Fault> {
    match parse(text, ParseOptions::from(Mode::Module)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::at(text, error.location.start().to_usize(), kind(&error.error))),
    }
}

/// A mistake and its place.
struct Fault {
    line: usize,
    column: usize,
    kind: String,
}

impl Fault {
    fn at(text: &str, offset: usize, kind: impl Into<String>) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Fault { line, column: before[start..].chars().count() + 1, kind: kind.into() }
    }

    fn told(self, name: &str) -> Error {
        let Fault { line, column, kind } = self;
        Error::refused(format!("{name} is not valid Python: line {line}, column {column}: {kind}")).help(
            "correct it, then: imgforge secrets put NAME FILE (python3 -m py_compile FILE shows the line)",
        )
    }
}

/// The text, as Python decodes it: UTF-8 with or without a mark, or what a coding line names (PEP 263).
fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, Fault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(Fault::at(&ascii(&bytes[..offset]), offset, "a null byte"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        // Every other encoding that Python takes here holds ASCII as it is, and that is all that syntax consists of.
        Err(_) if names_an_encoding(bytes) => Ok(ascii(bytes)),
        Err(error) => {
            let offset = error.valid_up_to();
            let text = ascii(&bytes[..offset]);
            Err(Fault::at(&text, text.len(), "neither UTF-8 nor another encoding that a coding line names"))
        }
    }
}

/// The ASCII in `bytes`, each other byte as one letter.
fn ascii(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { 'é' }).collect())
}

/// Whether one of the first two lines is `# … coding: NAME` with a name that is not UTF-8's.
fn names_an_encoding(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').take(2).any(|line| {
        let line = ascii(line);
        let Some((_, name)) = line.trim_start().strip_prefix('#').and_then(|line| line.split_once("coding"))
        else {
            return false;
        };
        let name = name.strip_prefix([':', '=']).unwrap_or_default().trim().to_ascii_lowercase();
        !name.is_empty() && !name.starts_with("utf")
    })
}

/// Refuses what is nested too deep for any parser's stack. Brackets in strings and comments count too: 200 of those
/// open at once are no settings either.
fn check_nesting(text: &str) -> Result<(), Fault> {
    let mut depth = 0_usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(Fault::at(text, offset, "too many nested brackets"));
        }
    }
    Ok(())
}

/// The kind of a mistake. Those whose text could hold something of the file get a text of their own.
fn kind(error: &ParseErrorType) -> String {
    match error {
        ParseErrorType::OtherError(_) => "invalid syntax".into(),
        ParseErrorType::DuplicateKeywordArgumentError(_) => "a keyword argument twice".into(),
        ParseErrorType::Lexical(LexicalErrorType::UnrecognizedToken { .. }) => {
            "an unexpected character".into()
        }
        ParseErrorType::Lexical(LexicalErrorType::OtherError(_)) => "invalid syntax".into(),
        ParseErrorType::UnexpectedIpythonEscapeCommand => "an unexpected character".into(),
        // These name kinds of tokens ("name", "int"), never the tokens.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(source: &[u8]) -> Option<String> {
        check(&Secret::new(source.to_vec()), "settings").err().map(|error| error.what().to_owned())
    }

    #[test]
    fn takes_what_python_takes() {
        let sources: [&[u8]; 9] = [
            b"",
            b"SECRET_KEY = 'x'\nDATABASES = {'default': {'ENGINE': 'e'}}\n",
            b"\xef\xbb\xbfA = 1\r\nB = 2\r\n",
            "A = 'é'\nNAME = f\"{A!r:>{10}}\"\n".as_bytes(),
            b"# -*- coding: latin-1 -*-\nA = '\xe9'\n",
            b"#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\nA = '\xe9'\n",
            b"match x:\n    case [1, *_]: pass\n    case _: pass\n",
            b"from os import environ as e\nif (n := e.get('N')):\n\tA = n\n",
            b"type A[T] = list[T]\nasync def f():\n    async with a as b, c: await b\n",
        ];
        for source in sources {
            assert_eq!(fault(source), None, "{source:?}");
        }
    }

    #[test]
    fn tells_line_column_and_kind_and_nothing_of_the_file() {
        let sources: [(&[u8], &str); 12] = [
            (b"A = 1\nhunter2 = = 2\n", "line 2, column 11"),
            (b"A = 'hunter2\n", "line 1, column"),
            (b"A = hunter2 hunter2\n", "line 1, column 13"),
            (b"if 1:\nhunter2 = 1\n", "line 2, column 1"),
            (b"f(hunter2=1, hunter2=2)\n", "line 1, column 14"),
            (b"A = {'hunter2': 1\nB = 2\n", "line 2"),
            (b"A = $hunter2\n", "line 1, column 5: an unexpected character"),
            (b"  A = 'hunter2'\n", "line 1, column 1"),
            (b"A = 'hunter2\xe9'\n", "line 1, column 13: neither UTF-8"),
            (b"# coding: utf-8\nA = 'hunter2\xe9'\n", "line 2, column 13: neither UTF-8"),
            (b"A = 1\nB = 'hunter2\0'\n", "line 2, column 13: a null byte"),
            (b"!hunter2\n", "line 1, column 1"),
        ];
        for (source, place) in sources {
            let fault = fault(source).unwrap_or_else(|| panic!("{source:?} passes"));
            assert!(fault.contains(place), "{fault}");
            assert!(!fault.contains("hunter") && !fault.contains('$'), "{fault}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let deep = |open: &str, close: &str, times: usize| {
            format!("A = {}1{}\n", open.repeat(times), close.repeat(times)).into_bytes()
        };
        assert_eq!(fault(&deep("[", "]", 199)), None);
        assert!(fault(&deep("(", ")", 100_000)).unwrap().contains("too many nested brackets"));
    }
}
