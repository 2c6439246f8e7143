//! Memory for the time when there is no more: Rust ends the process when it gets none for a message or a thread's
//! name, and a host is not to die of that. Large blocks are asked for such that a refusal is an error; small ones that
//! the system refuses come from a block set aside, which is untouched, and so costs addresses only, until then.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// In bytes. What is larger is data, and its refusal an error.
const LARGEST: usize = 64 << 10;

#[global_allocator]
static MEMORY: Reserve<{ 1 << 20 }> = Reserve::new();

/// The system's allocator with `SIZE` bytes in reserve.
#[repr(C, align(64))]
struct Reserve<const SIZE: usize> {
    block: UnsafeCell<[u8; SIZE]>,
    /// How many allocations are in the block (upper half), and where its free end begins (lower half).
    state: AtomicU64,
}

// SAFETY: each byte of the block belongs to one allocation at most, which `state`, changed atomically, sees to.
unsafe impl<const SIZE: usize> Sync for Reserve<SIZE> {}

impl<const SIZE: usize> Reserve<SIZE> {
    const fn new() -> Self {
        assert!(SIZE < u32::MAX as usize);
        Reserve { block: UnsafeCell::new([0; SIZE]), state: AtomicU64::new(0) }
    }

    fn start(&self) -> *mut u8 {
        self.block.get().cast()
    }

    /// Where in the block `memory` is, if it is.
    fn offset(&self, memory: *mut u8) -> Option<usize> {
        memory.addr().checked_sub(self.start().addr()).filter(|&offset| offset < SIZE)
    }

    /// Some of the block, or null.
    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        let first =
            |end: u64| (self.start().addr() + end as usize).next_multiple_of(layout.align()) - self.start().addr();
        let taken = self.state.fetch_update(AcqRel, Acquire, |state| {
            let (live, end) = unpack(state);
            let end = first(end) + layout.size();
            (end <= SIZE).then(|| pack(live + 1, end))
        });
        taken.map_or(std::ptr::null_mut(), |state| self.start().wrapping_add(first(unpack(state).1)))
    }

    /// Takes back what `take` gave. The end of the block is free again when the last piece is, all of it when all are.
    fn give_back(&self, offset: usize, size: usize) {
        let given = self.state.fetch_update(AcqRel, Acquire, |state| {
            let (live, end) = unpack(state);
            let end = if offset + size == end as usize { offset } else { end as usize };
            Some(pack(live - 1, if live == 1 { 0 } else { end }))
        });
        debug_assert!(given.is_ok());
    }
}

fn pack(live: u64, end: usize) -> u64 {
    live << 32 | end as u64
}

fn unpack(state: u64) -> (u64, u64) {
    (state >> 32, state & u64::from(u32::MAX))
}

// SAFETY: memory is the system's, or a part of the block that nobody else has, of the layout's size and alignment; it
// goes back where it came from.
unsafe impl<const SIZE: usize> GlobalAlloc for Reserve<SIZE> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is the caller's, for which it answers; so below.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { self.take(layout) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see `alloc`.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            return memory;
        }
        let memory = self.take(layout);
        if !memory.is_null() {
            // SAFETY: `take` gave so many bytes.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match self.offset(memory) {
            Some(offset) => self.give_back(offset, layout.size()),
            // SAFETY: what is not in the block came from the system.
            None => unsafe { System.dealloc(memory, layout) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.offset(memory).is_none() {
            // SAFETY: what is not in the block came from the system.
            let grown = unsafe { System.realloc(memory, layout, size) };
            if !grown.is_null() {
                return grown;
            }
        }
        // SAFETY: the caller answers for the size; the new memory is no shorter than what is copied, and the old is
        // the caller's no more once there is new memory.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(memory, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Layout = Layout::new::<[u8; 100]>();

    #[test]
    fn a_reserve_lends_aligned_parts_and_is_whole_again_when_all_are_back() {
        let reserve = Box::new(Reserve::<1000>::new());
        for _ in 0..2 {
            let parts: Vec<_> =
                std::iter::repeat_with(|| reserve.take(SMALL)).take_while(|part| !part.is_null()).collect();
            assert_eq!(parts.len(), 10);
            for &part in &parts {
                // SAFETY: the part has 100 bytes, and nobody else has it.
                unsafe { part.write_bytes(7, 100) };
            }
            parts.iter().for_each(|&part| reserve.give_back(reserve.offset(part).unwrap(), 100));
        }
        let (_one, aligned) =
            (reserve.take(Layout::new::<u8>()), reserve.take(Layout::from_size_align(8, 256).unwrap()));
        assert!(aligned.addr().is_multiple_of(256));
        assert!(reserve.offset(aligned).is_some());
        assert!(reserve.take(Layout::new::<[u8; LARGEST + 1]>()).is_null());
    }

    #[test]
    fn the_last_part_back_is_free_at_once() {
        let reserve = Box::new(Reserve::<1000>::new());
        let (_first, last) = (reserve.take(SMALL), reserve.take(SMALL));
        reserve.give_back(reserve.offset(last).unwrap(), 100);
        assert_eq!(reserve.take(SMALL), last);
    }

    #[test]
    fn threads_never_share_a_part() {
        let reserve = Box::new(Reserve::<1000>::new());
        std::thread::scope(|scope| {
            for id in 0..4_u8 {
                let reserve = &reserve;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let part = reserve.take(SMALL);
                        if let Some(offset) = reserve.offset(part) {
                            // SAFETY: the part has 100 bytes, and nobody else has it.
                            unsafe {
                                part.write_bytes(id, 100);
                                std::thread::yield_now();
                                assert!((0..100).all(|byte| part.add(byte).read() == id));
                            }
                            reserve.give_back(offset, 100);
                        }
                    }
                });
            }
        });
        assert_eq!(reserve.state.load(Acquire), 0);
    }

    #[test]
    fn what_is_in_the_reserve_moves_and_goes_back() {
        let memory = Box::new(Reserve::<1000>::new());
        let part = memory.take(SMALL);
        // SAFETY: each block is used with its own layout, and not after it moved.
        unsafe {
            part.write_bytes(7, 100);
            let moved = memory.realloc(part, SMALL, 200);
            assert!(memory.offset(moved).is_none() && (0..100).all(|byte| moved.add(byte).read() == 7));
            assert_eq!(memory.state.load(Acquire), 0);
            memory.dealloc(moved, Layout::new::<[u8; 200]>());
        }
    }
}
