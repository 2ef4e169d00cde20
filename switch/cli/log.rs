//! Where log lines go: standard error, so that standard output holds only what was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// The variable that says what is logged, as `debug` or `kswitch::lab=trace`; else `info`.
const VARIABLE: &str = "KSWITCH_LOG";

/// Starts logging.
pub(super) fn start() {
    let filter = std::env::var(VARIABLE).unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse_lossy(filter);
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // Somebody who embeds the library may log already.
    drop(begun);
}
