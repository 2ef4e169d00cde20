//! Where log lines go, and which there are: to standard error, so that standard output holds only
//! what was asked for.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The variable that says what is logged, as `debug` or `kswitch::lab=trace`; else `info`.
const VARIABLE: &str = "KSWITCH_LOG";

/// By what it is changed while the lab runs.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging.
pub fn start(format: LogFormat) {
    let filter = std::env::var(VARIABLE).unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse_lossy(filter);
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let begun = match format {
        LogFormat::Text => {
            let lines = fmt::layer().with_writer(io::stderr).with_target(false);
            registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(io::stderr))
            .try_init(),
    };
    // Somebody who embeds the library may log already.
    if begun.is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// What is logged now.
pub(super) fn filter() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Logs by another filter from now on.
///
/// # Errors
/// What is wrong with it, or that nothing is logged by this program.
pub(super) fn change(filter: &str) -> Result<(), String> {
    let handle = FILTER.get().ok_or("this program does not keep the log")?;
    let parsed = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse(filter)
        .map_err(|error| format!("{filter:?} is no log filter: {error}"))?;
    handle.reload(parsed).map_err(|error| error.to_string())
}
