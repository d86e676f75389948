//! A bound on what a decoder may allocate, for each thread on its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    let live = LIVE.get().saturating_add(bytes);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

fn returned(bytes: usize) {
    // Memory of other threads may be freed here.
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches only cells of the thread that need
// neither initialisation nor a destructor.
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
        taken(size);
        returned(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs a decoder on `length` bytes. It may hold 16 times as many and a megabyte.
pub(crate) fn bounded<T>(length: usize, decode: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let result = decode();
    let held = PEAK.get() - before;
    assert!(held <= 16 * length + (1 << 20), "{held} bytes were held for an input of {length}");
    result
}

#[test]
#[should_panic(expected = "bytes were held for an input of 3")]
fn the_bound_is_noticed() {
    bounded(3, || drop(Vec::<u8>::with_capacity(2 << 20)));
}
