//! The C library's allocator.

/// Returns freed memory to the system, as far as the allocator can: malloc_trim(3) of glibc, which
/// holds each of its arenas for the time that takes. Other C libraries have nothing like it.
pub(crate) fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) takes a number and may be called by any thread (MT-Safe).
        unsafe { libc::malloc_trim(0) };
    }
}
