//! The worker process: draws the documents that arrive on standard input until it closes. It limits
//! its own memory and processor time, so that a document cannot harm the machine; the renderer that
//! started it keeps the clock and kills it.

use crate::draw::draw;
use crate::failure::Failure;
use crate::isolate::spawn_large_stack;
use crate::protocol::{Answer, DrawRequest, read_frame, read_json, write_frame, write_json};
use crate::raster::Raster;
use crate::{document, fonts, on_large_stack};
use resvg::usvg::roxmltree::{Document, ParsingOptions};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, Write};
use std::process::ExitCode;

/// Bytes of address space, the large stack included.
const MEMORY: u64 = 1536 << 20;

/// The program's main function; ends with status 0 when standard input closes.
pub fn main() -> ExitCode {
    let limited = limit(Resource::As, MEMORY).and_then(|()| limit(Resource::Core, 0));
    if let Err(error) = limited {
        eprintln!("svg render worker: cannot limit itself: {error}");
        return ExitCode::FAILURE;
    }
    // A panic is answered as a reason; its message must not fill the error pipe.
    std::panic::set_hook(Box::new(|_| {}));
    let thread = spawn_large_stack("svg-worker", || {
        fonts::database(false);
        if let Err(error) = serve() {
            eprintln!("svg render worker: {error}");
        }
    });
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    loop {
        let request: DrawRequest = match read_json(&mut input) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let source = String::from_utf8(read_frame(&mut input)?).map_err(io::Error::other)?;
        // The process must not outlive a renderer that was killed while it draws.
        let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
        limit(Resource::Cpu, used + request.deadline_ms / 1000 + 3)?;
        let result = on_large_stack(|| render(&source, &request));
        let answer: Answer = result.as_ref().map(|_| ()).map_err(Clone::clone);
        write_json(&mut output, &answer)?;
        if let Ok(raster) = result {
            write_frame(&mut output, &raster.rgba)?;
        }
        output.flush()?;
    }
}

/// The renderer has checked the source: only parsing and drawing are left.
fn render(source: &str, request: &DrawRequest) -> Result<Raster, Failure> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(source, options).map_err(document::xml_failure)?;
    draw(&document, request.canvas, request.options)
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let maximum = if matches!(resource, Resource::Cpu) {
        None
    } else {
        Some(value)
    };
    Ok(setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum,
        },
    )?)
}
