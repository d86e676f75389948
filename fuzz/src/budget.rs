//! A bound on what one input may make a decoder allocate.
//!
//! libFuzzer only notices gigabytes. Here an input that makes a decoder hold more than its length justifies ends the
//! process on the spot, with a message, so that the input is kept like that of any other crash.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Allowed whatever the input: tables that are made once, error messages.
const FLAT: usize = 16 << 10;

static ARMED: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    if !ARMED.load(Relaxed) {
        return;
    }
    let live = LIVE.fetch_add(bytes, Relaxed).saturating_add(bytes);
    PEAK.fetch_max(live, Relaxed);
    if live > LIMIT.load(Relaxed) {
        ARMED.store(false, Relaxed);
        eprintln!("allocation of {bytes} bytes: {live} are held, {} are justified", LIMIT.load(Relaxed));
        std::process::abort();
    }
}

fn returned(bytes: usize) {
    if ARMED.load(Relaxed) {
        // What was allocated before the count began is not part of it.
        let _ = LIVE.fetch_update(Relaxed, Relaxed, |live| Some(live.saturating_sub(bytes)));
    }
}

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches only atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        returned(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new exist together for a moment.
        taken(size);
        returned(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs a decoder on an input of `length` bytes; it may hold `factor` times as many, and a flat amount.
pub fn bounded<T>(length: usize, factor: usize, decode: impl FnOnce() -> T) -> T {
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    LIMIT.store(FLAT + factor * length, Relaxed);
    ARMED.store(true, Relaxed);
    let result = decode();
    ARMED.store(false, Relaxed);
    result
}

/// Factor for formats whose values are about as large as their bytes.
pub const FACTOR: usize = 16;
