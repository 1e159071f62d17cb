//! The C library's resolver of names.

/// Has names looked up in /etc/hosts and by DNS alone, where the program is statically linked with glibc. Whatever
/// else nsswitch.conf(5) names is a shared library made for the host's C library, not for the one in the program,
/// which would load it all the same. Other programs do as nsswitch.conf(5) says.
pub(in crate::net) fn use_what_is_linked() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        use std::sync::Once;

        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: both are strings that live for ever, and glibc copies what it reads from them. It isn't to be
            // called while another thread looks up a name, and all lookups of the programs wait for this one call.
            let _ = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
        });
    }
}
