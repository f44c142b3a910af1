//! The terminal's settings, to be given back when a signal ends the process while a line is edited: the editor has
//! switched echo and line ends off by then, and a shell would go on with that.

#[cfg(unix)]
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The end of "bracketed paste", in which a terminal marks what is pasted.
#[cfg(unix)]
const PASTE_UNMARKED: &[u8] = b"\x1b[?2004l\r\n";

/// Settings of the terminal on stdin.
#[derive(Debug)]
pub(super) struct TerminalSettings {
    #[cfg(unix)]
    termios: Termios,
}

impl TerminalSettings {
    /// Those of now.
    #[cfg(unix)]
    pub(super) fn now() -> Option<Self> {
        let termios = tcgetattr(std::io::stdin()).ok()?;
        Some(Self { termios })
    }

    /// A Windows console keeps no settings of a process that has ended.
    #[cfg(not(unix))]
    pub(super) fn now() -> Option<Self> {
        None
    }

    /// Gives them back.
    pub(super) fn restore(&self) {
        #[cfg(unix)]
        {
            use std::io::Write;
            // There is nothing to be done about a terminal that is gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.termios);
            let _ = std::io::stderr().write_all(PASTE_UNMARKED);
        }
    }
}
