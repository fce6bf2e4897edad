//! What a terminal shows: text, and nothing that moves the cursor, colours, hides or turns text round.
//!
//! Servers, files and names of others end up on screens, and each may hold anything. So nothing is printed but through
//! here: on stdout and stderr every such character appears as JSON would write it (`\u001b`), and what is visible stays
//! as it is, in any script. JSON means the same then, so what programs read is not changed by it. Log lines are treated
//! alike ([`crate::telemetry`]).
//!
//! A line end is good in a card and bad in a name. Code that prints a text of somebody else that may have line ends
//! prints it as [`OneLine`].

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write as _},
    process,
};

use clap::Parser;

/// Whether a character does something instead of being seen: control characters (C0, DEL, C1), line and paragraph
/// separators, marks that turn the direction of writing, and characters without width. Selectors of variants stay:
/// pictures are made of them.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Writes on what is seen, and the rest as JSON writes it.
struct Seen<'a, W: ?Sized> {
    to: &'a mut W,
    /// Whether ends of lines and tabulators are wanted.
    lines: bool,
}

impl<W: fmt::Write + ?Sized> fmt::Write for Seen<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut written = 0;
        let unseen = text.char_indices().filter(|(_, c)| is_unseen(*c) && !(self.lines && matches!(c, '\n' | '\t')));
        for (at, c) in unseen {
            self.to.write_str(&text[written..at])?;
            match c {
                '\n' => self.to.write_str("\\n")?,
                '\r' => self.to.write_str("\\r")?,
                '\t' => self.to.write_str("\\t")?,
                _ => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(self.to, "\\u{unit:04x}"))?,
            }
            written = at + c.len_utf8();
        }
        self.to.write_str(&text[written..])
    }
}

/// A text of somebody else, printed on one line.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Seen { to: f, lines: false }, "{}", self.0)
    }
}

/// What is seen of a text of more than one line.
fn seen(text: fmt::Arguments<'_>) -> String {
    let mut shown = String::new();
    // A type whose Display fails shows as far as it came.
    let _ = Seen { to: &mut shown, lines: true }.write_fmt(text);
    shown
}

/// Prints to stdout, as `print!` does.
///
/// # Panics
/// If stdout is gone, as `print!` does.
pub fn out(text: fmt::Arguments<'_>) {
    std::print!("{}", seen(text));
}

/// Prints to stderr. Nobody is left to tell if it is gone.
pub fn err(text: fmt::Arguments<'_>) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(seen(text).as_bytes()).and_then(|()| stderr.flush());
}

/// Prints to stderr over what the line held before.
pub fn err_over(text: fmt::Arguments<'_>) {
    let _ = write!(io::stderr().lock(), "\r{}", OneLine(text));
}

/// Prints a line to stdout. Its reader may have gone, which is an error and no panic.
///
/// # Errors
/// What writing said.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", seen(format_args!("{text}")))?;
    out.flush()
}

/// Prints what other programs read byte for byte, a signed note for one: into a file or a pipe as it is, on a terminal
/// as all else.
///
/// # Errors
/// What writing said.
pub fn exact(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        out.write_all(seen(format_args!("{text}")).as_bytes())?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// Prints an error to stderr. Its further lines are indented, so that no part of it looks like a line of ours.
pub fn error(who: &str, what: &dyn fmt::Display) {
    let lines = seen(format_args!("{what}")).replace('\n', "\n  ").replace("\n  \n", "\n\n");
    err(format_args!("{who}: {lines}\n"));
}

/// The command line of this process. What is wrong with it is shown as all else is: arguments are pasted from anywhere.
pub fn arguments<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|wrong| {
        let text = wrong.render().to_string();
        if wrong.use_stderr() {
            error("error", &text.trim_start_matches("error: ").trim_end());
        } else {
            // Help, or the version. Nobody is left to tell if stdout is gone.
            let _ = line(text.trim_end());
        }
        process::exit(wrong.exit_code())
    })
}

/// A log line as it is written: the last line end ends it, and there is no other.
pub(crate) fn log_line(line: &str) -> String {
    let text = line.strip_suffix('\n').unwrap_or(line);
    format!("{}\n", OneLine(text))
}

/// Whether somebody looks at stderr.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_and_what_acts_is_written_out() {
        for text in
            ["", "plain", "Zoë, Ødegård, 张伟, Ольга, دانا, ดวงใจ, e\u{301}, 🎉\u{fe0f}", "\\u001b", "a\"b", "✓ • —"]
        {
            assert_eq!(OneLine(text).to_string(), text);
            assert_eq!(seen(format_args!("{text}")), text);
        }
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a\\u001b[2Jb"),
            ("\u{9b}1m", "\\u009b1m"),
            ("\r\u{7f}\0", "\\r\\u007f\\u0000"),
            ("\u{202e}\u{2066}\u{200f}\u{61c}", "\\u202e\\u2066\\u200f\\u061c"),
            ("\u{200b}\u{feff}\u{ad}\u{2060}", "\\u200b\\ufeff\\u00ad\\u2060"),
            ("\u{2028}\u{2029}\u{85}", "\\u2028\\u2029\\u0085"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(OneLine(text).to_string(), shown);
            assert_eq!(seen(format_args!("{text}")), shown);
            // JSON means the same.
            let json = serde_json::to_string(text).unwrap();
            let read: String = serde_json::from_str(&OneLine(json).to_string()).unwrap();
            assert_eq!(read, text);
        }
        assert_eq!(OneLine("a\nb\tc").to_string(), "a\\nb\\tc");
        assert_eq!(seen(format_args!("a\nb\tc")), "a\nb\tc");
        assert_eq!(log_line("one\ntwo\n"), "one\\ntwo\n");
    }

    #[test]
    fn no_control_character_of_unicode_is_left_over() {
        for c in ('\0'..=char::MAX).filter(|c| c.is_control()) {
            assert!(is_unseen(c), "{}", c.escape_unicode());
        }
        for c in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert!(is_unseen(c), "{}", c.escape_unicode());
        }
    }
}
