//! Where a command writes: text for people, or JSON documents for programs.
//!
//! Results go to standard output, everything else to standard error. Both are plain writers, so
//! that tests read what was written, and a reader that goes away ends the command quietly.

mod table;
mod terminal;

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::Failure;

pub(crate) use table::{Align, Table};
pub(crate) use terminal::{grouped, one_line, printable};

/// How text for people looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) colour: bool,
    /// Columns to fill; `None` where nobody looks at it on a terminal.
    pub(crate) width: Option<usize>,
}

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Title,
    Person,
    Agent,
    Tool,
    Faint,
    Bad,
}

impl Style {
    /// The text in its colour, where colours are wanted.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Title => "1",
            Tone::Person => "1;36",
            Tone::Agent => "1;32",
            Tone::Tool => "33",
            Tone::Faint => "2",
            Tone::Bad => "1;31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The writers of one command.
pub struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    style: Style,
    progress: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("style", &self.style).finish_non_exhaustive()
    }
}

impl Output {
    /// The process's own streams. Colours are for a terminal, and not where `NO_COLOR` is set.
    #[must_use]
    pub fn process() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = terminal.then(|| usize::from(console::Term::stdout().size().1));
        Self {
            out: Box::new(BufWriter::new(stdout)),
            err: Box::new(io::stderr()),
            style: Style { colour: terminal && !refused, width },
            progress: io::stderr().is_terminal(),
        }
    }

    /// Writers that somebody else reads; no colours, no progress.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, style: Style { colour: false, width: None }, progress: false }
    }

    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// A progress bar on standard error, where somebody looks at it. It goes away when dropped.
    pub(crate) fn bar(&self, doing: &'static str, length: usize) -> ProgressBar {
        let target = if self.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length as u64), target).with_message(doing);
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}");
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
        .with_finish(indicatif::ProgressFinish::AndClear)
    }

    /// A line of the result.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.as_ref()).map_err(wrote)
    }

    /// A line beside the result.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.err, "{}", text.as_ref()).map_err(wrote)
    }

    /// The result as one JSON document on one line.
    pub(crate) fn json<T: Serialize>(&mut self, document: &T) -> Result<(), Failure> {
        self.json_part(document)?;
        self.line("")
    }

    /// A value inside a JSON document that is written as it is read.
    pub(crate) fn json_part<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| wrote(error.into()))
    }

    /// What stands between the values of such a document.
    pub(crate) fn part(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(wrote)
    }

    /// The result as it is; on a terminal, what is harmless there.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.style.width {
            Some(_) => {
                let text = String::from_utf8_lossy(bytes);
                text.lines().try_for_each(|line| self.line(printable(line)))
            }
            None => self.out.write_all(bytes).map_err(wrote),
        }
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        for line in table.lines(self.style) {
            self.line(line)?;
        }
        Ok(())
    }

    /// The writer of the result and that of everything else.
    pub(crate) fn writers(&mut self) -> (&mut dyn Write, &mut dyn Write) {
        (&mut *self.out, &mut *self.err)
    }

    /// Hands on what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(wrote)
    }

    /// The last word: why the command failed.
    pub(crate) fn fail(&mut self, failure: &Failure, json: bool) {
        let text = if json {
            failure.to_json().to_string()
        } else {
            let message = failure.message();
            let lines: Vec<String> = message.lines().map(|line| printable(line).into_owned()).collect();
            format!("{}: {}", self.style.paint(Tone::Bad, "error"), lines.join("\n"))
        };
        // There is nobody left to tell.
        let _ = writeln!(self.err, "{text}");
    }
}

fn wrote(error: io::Error) -> Failure {
    Failure::io("write the output", error)
}
