//! The end of a process whose memory is full: one sentence and status 1, never a signal.
//!
//! Three places meet it. libtorch's operators throw, which becomes an error like any other. Rust's own allocator has
//! no way back: the allocator here says the prepared sentence instead of aborting. And what C++ throws where nobody
//! catches it, in a thread of libtorch's for instance, ends here as well.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::io::Write;
use std::sync::OnceLock;

/// Requests from this size on are refused like any other: no memory holds them, and readers of hostile files ask
/// for them in order to be told.
const ABSURD: usize = 1 << 40;

/// What may make the process smaller, as it is said where memory runs out.
static ADVICE: OnceLock<CString> = OnceLock::new();

unsafe extern "C" {
    fn _exit(status: i32) -> !;
}

/// The system's allocator; where it has no memory left the process ends with a sentence and status 1.
#[derive(Debug, Default)]
pub struct SentenceAllocator;

// SAFETY: the system's allocator, whose answers are passed on unless the process ends.
unsafe impl GlobalAlloc for SentenceAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system allocator's.
        told(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        told(unsafe { System.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn told(given: *mut u8, size: usize) -> *mut u8 {
    if given.is_null() && size < ABSURD {
        end(size);
    }
    given
}

/// Says the sentence without asking for memory, and ends.
fn end(size: usize) -> ! {
    let mut room = [0u8; 1024];
    let mut rest: &mut [u8] = &mut room;
    let advice = ADVICE.get().map_or(&b""[..], |advice| advice.as_bytes());
    // What does not fit the room is cut.
    let _ = write!(rest, "error: out of memory: {size} bytes more do not fit; ");
    let _ = rest.write_all(advice);
    let _ = rest.write_all(b"\n");
    let left = rest.len();
    let used = room.len() - left;
    let _ = std::io::stderr().write_all(&room[..used]);
    // SAFETY: ends the process; nothing else happens in it.
    unsafe { _exit(1) }
}

/// Prepares the sentence for every way in which memory may run out; `advice` says what makes the process smaller.
pub fn prepare_for_full_memory(advice: &str) {
    let advice = ADVICE.get_or_init(|| CString::new(advice).unwrap_or_default());
    // SAFETY: a C string that lives as long as the process.
    unsafe { crate::ffi::svgrl_end_in_words(advice.as_ptr()) }
}
