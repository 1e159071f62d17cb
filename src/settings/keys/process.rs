//! Life cycle, admin port, confinement and log.

use super::{LIST, VALUE, all, one, shown};
use crate::net::endpoint::AdminAddress;
use crate::net::units;
use crate::settings::key::{Group, Key};
use crate::settings::parse;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "drain-delay",
        value: "DURATION",
        group: Group::LifeCycle,
        help: "Continue accepting for this long after SIGTERM or SIGINT, so that load balancers \
               notice.",
        default: "0",
        apply: |s, text| parse::duration(text).map(|v| s.config.drain_delay = v),
        show: |s| one(units::format_duration(s.config.drain_delay)),
        ..VALUE
    },
    Key {
        name: "drain-timeout",
        value: "DURATION",
        group: Group::LifeCycle,
        help: "Then let open connections finish for up to this long; a second signal stops at once.",
        default: "10s",
        apply: |s, text| parse::duration(text).map(|v| s.config.drain_timeout = v),
        show: |s| one(units::format_duration(s.config.drain_timeout)),
        ..VALUE
    },
    Key {
        name: "handover",
        value: "PATH",
        group: Group::LifeCycle,
        help: "Unix socket over which a new echod takes the listening sockets from the running one.",
        default: "none",
        apply: |s, text| parse::socket_path(text).map(|v| s.handover = Some(v)),
        show: |s| shown(s.handover.as_ref(), |path| path.display().to_string()),
        ..VALUE
    },
    Key {
        name: "admin",
        value: "HOST:PORT|unix:PATH",
        group: Group::Administration,
        help: "Serve /metrics, /livez, /readyz and /info over HTTP here. Every \
               client that can connect may read all of it. A Unix socket has the permissions of \
               unix-mode, or 600.",
        default: "off",
        apply: |s, text| parse::admin(text).map(|v| s.admin = Some(v)),
        show: |s| shown(s.admin.as_ref(), AdminAddress::to_string),
        ..VALUE
    },
    Key {
        name: "admin-host",
        value: "NAME",
        group: Group::Administration,
        help: "Also answer requests to the admin port for this name, such as that of a service in \
               Kubernetes. Others are answered for IP addresses, localhost, the host in admin and \
               this machine's name only, so that no web page can read it through a browser (DNS \
               rebinding).",
        default: "none",
        apply: |s, text| parse::host_name(text).map(|v| s.admin_hosts.push(v)),
        show: |s| all(&s.admin_hosts),
        clear: |s| s.admin_hosts.clear(),
        ..LIST
    },
    Key {
        name: "user",
        value: "NAME[:GROUP]",
        group: Group::Confinement,
        help: "Become this user of /etc/passwd, or UID:GID, once the sockets are bound, and give all \
               privileges up.",
        default: "the user that starts it",
        apply: |s, text| parse::from_str(text).map(|v| s.user = Some(v)),
        show: |s| s.user.iter().map(ToString::to_string).collect(),
        ..VALUE
    },
    Key {
        name: "sandbox",
        value: "auto|off|require",
        group: Group::Confinement,
        help: "Then allow only the files (Landlock) and the system calls (seccomp) that serving needs. \
               auto: as far as the kernel can; require: or don't start.",
        default: "auto",
        apply: |s, text| parse::from_str(text).map(|v| s.sandbox = v),
        show: |s| one(s.sandbox),
        ..VALUE
    },
    Key {
        name: "announce",
        value: "stdout|off",
        group: Group::Logging,
        help: "Where the lines `listening` and `ready` go that scripts wait for. The log has them in \
               its line `started` too; off: only there, for a container that merges both outputs.",
        default: "stdout",
        apply: |s, text| parse::from_str(text).map(|v| s.announce = v),
        show: |s| one(s.announce),
        ..VALUE
    },
    Key {
        name: "log-format",
        value: "FORMAT",
        group: Group::Logging,
        help: "Format of log lines on stderr: text or json.",
        default: "text",
        apply: |s, text| parse::from_str(text).map(|v| s.log_format = v),
        show: |s| one(s.log_format),
        ..VALUE
    },
    Key {
        name: "log-level",
        value: "LEVEL",
        group: Group::Logging,
        help: "Log lines of this level and above: error, warn, info, debug (a line for each connection \
               opened, closed or refused) or trace (the same as debug at present).",
        default: "info",
        apply: |s, text| parse::from_str(text).map(|v| s.log_level = v),
        show: |s| one(s.log_level),
        ..VALUE
    },
];
