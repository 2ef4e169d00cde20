//! `capture`: frames with what becomes of them, as pcapng.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::error::Error;
use super::lab::Lab;
use crate::control::capture::{BOX_OCTETS, FrameRecord, unhex};
use crate::control::request::{Request, Response};
use crate::rights;

/// The name that stands for every port.
const ANY: &str = "any";

/// Timestamps count nanoseconds: ten to the power of minus nine.
///
/// Source: draft-ietf-opsawg-pcapng §4.2, if_tsresol.
const NANOSECONDS: u8 = 9;

/// Direction bits of a packet's flags.
///
/// Source: draft-ietf-opsawg-pcapng §4.3.1.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// Write frames with their verdicts to a pcapng file, until interrupted
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// [NAMESPACE/]POD, node/NAME or ext/NAME, several with commas; or any
    #[arg(value_name = "PORT")]
    ports: String,

    /// In pcap's language, as far as it goes: `tcp port 80 and not host 10.4.0.2`
    filter: Option<String>,

    /// The file; - for standard output
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,

    /// Octets of each frame
    #[arg(short, long, value_name = "OCTETS", default_value_t = BOX_OCTETS)]
    snap: usize,

    /// One frame in so many
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample: u64,

    /// End after so many frames
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch capture client -w client.pcapng
  kswitch capture any 'tcp port 80' -w - | tshark -r -";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    rights::stand_back(rights::SHOWER);
    let Arguments { ports, filter, write, snap, count, sample } = arguments;
    let ports: Vec<String> = match ports.as_str() {
        ANY => Vec::new(),
        names => names.split(',').map(str::to_owned).collect(),
    };
    let request = Request::Capture { ports, snap: *snap, filter: filter.clone(), sample: *sample };
    let mut responses = lab.ask(&request)?;
    // the first answer comes before the file is made: a wrong name leaves none behind
    let mut response = responses.next();
    let mut file = Pcapng::create(write, *snap)?;
    let mut left = *count;
    // so that the file is whole, and its reader hears how much there was
    let is_over = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_over)).map_err(Error::new)?;
    }
    while let Some(answer) = response {
        let items = match answer? {
            Response::Objects { items } => items,
            other => return Err(Error::of(other)),
        };
        for item in items {
            let frame: FrameRecord = serde_json::from_value(item).map_err(|_| misfit())?;
            file.write(&frame)?;
            left = left.map(|left| left.saturating_sub(1));
            if left == Some(0) {
                return file.end();
            }
        }
        file.flush()?;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        response = responses.next();
    }
    file.end()
}

fn misfit() -> Error {
    Error::new("the switch gave an answer that does not fit: is it of another version?")
}

/// A file of frames, an interface for each port.
struct Pcapng {
    writer: PcapNgWriter<BufWriter<Box<dyn Write>>>,
    interfaces: HashMap<String, u32>,
    snap: u32,
    frames: u64,
    lost: u64,
}

impl Pcapng {
    fn create(path: &Path, snap: usize) -> Result<Self, Error> {
        let target: Box<dyn Write> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            let file = File::create(path);
            let named = |error| Error::new(format_args!("{}: {error}", path.display()));
            Box::new(file.map_err(named)?)
        };
        let writer = PcapNgWriter::new(BufWriter::new(target)).map_err(failed)?;
        let snap = u32::try_from(snap).unwrap_or(u32::MAX);
        Ok(Self { writer, interfaces: HashMap::new(), snap, frames: 0, lost: 0 })
    }

    fn interface(&mut self, port: &str) -> Result<u32, Error> {
        if let Some(known) = self.interfaces.get(port) {
            return Ok(*known);
        }
        let id = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snap,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(port.to_owned())),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(failed)?;
        self.interfaces.insert(port.to_owned(), id);
        Ok(id)
    }

    fn write(&mut self, frame: &FrameRecord) -> Result<(), Error> {
        let FrameRecord { port, is_inbound, nanos, octets, comment, data, lost } = frame;
        let interface_id = self.interface(port)?;
        let data = unhex(data).ok_or_else(misfit)?;
        let way = if *is_inbound { INBOUND } else { OUTBOUND };
        let comment = match lost {
            0 => Cow::Borrowed(comment.as_str()),
            lost => Cow::Owned(format!("{comment}; {lost} frames were lost before")),
        };
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(*nanos),
            original_len: u32::try_from(*octets).unwrap_or(u32::MAX),
            data: Cow::Owned(data),
            options: vec![EnhancedPacketOption::Flags(way), EnhancedPacketOption::Comment(comment)],
        };
        self.writer.write_pcapng_block(block).map_err(failed)?;
        self.frames += 1;
        self.lost += lost;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(self.writer.get_mut().flush()?)
    }

    /// Says how much there was.
    fn end(mut self) -> Result<ExitCode, Error> {
        self.flush()?;
        // nobody is left to tell if standard error is closed
        let _ = writeln!(io::stderr(), "{} frames, {} lost", self.frames, self.lost);
        Ok(ExitCode::SUCCESS)
    }
}

/// An error of the file; a reader who has gone, as `head` does, is none.
fn failed(error: pcap_file::PcapError) -> Error {
    match error {
        pcap_file::PcapError::IoError(error) => error.into(),
        other => Error::new(other),
    }
}
