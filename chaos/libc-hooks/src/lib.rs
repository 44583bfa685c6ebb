//! `getrandom` and `clock_gettime` as a simulation wants them: a program that links this crate asks here.
//!
//! A thread that has called [`seed`] draws what the seed gives, and reads the clock that [`set_clock`] set. So
//! does everything that it runs: the seeds of std's hash maps, of `rand` and of tokio's `select!`, std's
//! `Instant` and `SystemTime`. All other threads get what the kernel gives. This crate holds all unsafe code
//! of the workspace.

use std::{
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    slice,
};

thread_local! {
    /// The state of this thread's generator; none: the kernel is asked.
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
    /// Ns, for every clock there is.
    static CLOCK_NS: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread draws what `seed` gives, and its clocks stand where [`set_clock`] puts them.
pub fn seed(seed: u64) {
    RANDOM.set(Some(seed));
}

/// Puts the clocks of a thread that is seeded.
pub fn set_clock(ns: u64) {
    CLOCK_NS.set(ns);
}

/// The next number of this thread's generator (SplitMix64), where it is seeded.
fn draw() -> Option<u64> {
    let state = RANDOM.get()?.wrapping_add(0x9E37_79B9_7F4A_7C15);
    RANDOM.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Some(mixed ^ (mixed >> 31))
}

/// # Safety
/// As the C library says: `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if RANDOM.get().is_none() {
        // SAFETY: the kernel checks all three; what holds for the caller's call holds for this one.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    }
    if buffer.is_null() {
        return 0;
    }
    // SAFETY: not null, and the caller answers for its length.
    let bytes = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let drawn = draw().unwrap_or_default().to_le_bytes();
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
    length as isize
}

/// # Safety
/// As the C library says: `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if RANDOM.get().is_none() {
        // SAFETY: the kernel checks both; what holds for the caller's call holds for this one.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int };
    }
    let ns = CLOCK_NS.get();
    let now = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the caller answers for the pointer.
    unsafe { time.write(now) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::HashSet,
        thread,
        time::{Duration, Instant, SystemTime},
    };

    fn order(of: u64) -> Vec<u32> {
        let draw = move || {
            seed(of);
            (0..100).collect::<HashSet<u32>>().into_iter().collect()
        };
        thread::spawn(draw).join().expect("no panic")
    }

    #[test]
    fn a_seed_decides_the_order_of_a_hash_set() {
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn a_seeded_thread_has_the_clock_that_was_set() {
        let reads = || {
            seed(1);
            set_clock(5_000_000_000);
            let began = Instant::now();
            set_clock(7_500_000_000);
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("later");
            assert_eq!(
                (began.elapsed(), since),
                (Duration::from_millis(2_500), Duration::from_millis(7_500))
            );
        };
        thread::spawn(reads).join().expect("no panic");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("later");
        assert!(now > Duration::from_secs(1_000_000_000), "other threads have the real one");
    }
}
