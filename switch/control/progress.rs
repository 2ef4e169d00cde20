//! How far a bring-up is, for whoever waits for it: a line that is written over on a terminal, else
//! lines of the log.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Namespaces below which nobody has to wait.
const WORTH_A_WORD: usize = 20;

/// Namespaces from one line of the log to the next.
const LOGGED: usize = 100;

/// Columns of the bar.
const WIDTH: usize = 30;

/// Tells on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    /// What stands on the terminal now.
    shown: Mutex<String>,
}

impl Progress {
    /// Nothing is told yet.
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), shown: Mutex::default() }
    }

    /// So many namespaces of all are made.
    pub(super) fn tell(&self, made: usize, all: usize) {
        if self.is_terminal {
            // a closed standard error is the reader's choice
            let _ = self.draw(&mut io::stderr(), made, all);
        } else if all >= LOGGED && made.is_multiple_of(LOGGED) {
            tracing::info!("{made} of {all} namespaces made");
        }
    }

    fn draw(&self, to: &mut impl Write, made: usize, all: usize) -> io::Result<()> {
        if all < WORTH_A_WORD {
            return Ok(());
        }
        let line = if made >= all { String::new() } else { line(made, all) };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == line {
            return Ok(());
        }
        // back to the start of the line, and what is left of the one before goes
        write!(to, "\r\x1b[K{line}")?;
        *shown = line;
        to.flush()
    }
}

/// The bar, and how many of how many.
fn line(made: usize, all: usize) -> String {
    let full = (made * WIDTH).checked_div(all).unwrap_or(WIDTH).min(WIDTH);
    let percent = (made * 100).checked_div(all).unwrap_or(100);
    format!("namespaces [{}{}] {percent} % of {all}", "#".repeat(full), " ".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_drawn_over_and_gone_in_the_end() {
        let progress = Progress { is_terminal: true, shown: Mutex::default() };
        let draw = |made, all| {
            let mut text = Vec::new();
            progress.draw(&mut text, made, all).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(draw(1, 5), "", "nobody has to wait");
        let bar = format!("namespaces [{}{}] 50 % of 1000", "#".repeat(15), " ".repeat(15));
        assert_eq!(draw(500, 1000), format!("\r\x1b[K{bar}"));
        assert_eq!(draw(501, 1000), "", "nothing that could be seen has changed");
        assert_eq!(draw(1000, 1000), "\r\x1b[K");
    }
}
