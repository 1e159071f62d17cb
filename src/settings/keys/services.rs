//! Services and their endpoints.

use super::{FLAG, LIST, VALUE, all, one, shown};
use crate::faults::Faults;
use crate::net::endpoint::Endpoint;
use crate::service::Service;
use crate::settings::key::{Group, Key};
use crate::settings::parse;
use crate::settings::values::Settings;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "echo",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Echo here (RFC 862): tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:PATH, an \
               IPv6 host in brackets; port 0 takes a free one. Faults on order follow a question mark, such as \
               tcp://HOST:PORT?delay=exp:1ms&drop=0.1%: delay, work, drop, duplicate, reorder, corrupt, \
               reset, close-after, stall and seed. Endpoints of all services belong \
               together: a source that gives any of them replaces all that weaker sources gave.",
        default: "tcp://127.0.0.1:7777 if there is no endpoint at all",
        apply: |s, text| serve(s, Service::Echo, text),
        show: |s| served(s, Service::Echo),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "discard",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Discard input here (RFC 863), endpoints as for echo.",
        default: "none",
        apply: |s, text| serve(s, Service::Discard, text),
        show: |s| served(s, Service::Discard),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "chargen",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Send characters without end here (RFC 864), endpoints as for echo but no unix:PATH; \
               over UDP only with udp-chargen.",
        default: "none",
        apply: |s, text| serve(s, Service::Chargen, text),
        show: |s| served(s, Service::Chargen),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "whoami",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Greet each connection with a line of JSON about this server and the connection, and \
               then echo, endpoints as for echo; over UDP, answer with that line what is as long.",
        default: "none",
        apply: |s, text| serve(s, Service::Whoami, text),
        show: |s| served(s, Service::Whoami),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "whoami-env",
        value: "NAME",
        group: Group::Services,
        help: "Put this environment variable into the line of whoami, if it is set.",
        default: "HOSTNAME, POD_NAME, POD_NAMESPACE, NODE_NAME, SERVICE_NAME",
        apply: |s, text| parse::variable(text).map(|v| s.config.whoami_env.push(v)),
        show: |s| all(&s.config.whoami_env),
        clear: |s| s.config.whoami_env.clear(),
        ..LIST
    },
    Key {
        name: "udp-chargen",
        group: Group::Services,
        help: "Allow chargen over UDP. An answer is never larger than 512 bytes or than its \
               request.",
        apply: |s, text| parse::boolean(text).map(|v| s.config.udp_chargen = v),
        show: |s| one(s.config.udp_chargen),
        ..FLAG
    },
    Key {
        name: "unix-mode",
        value: "MODE",
        group: Group::Services,
        help: "Permissions of the files of Unix sockets, octal, such as 660.",
        default: "the umask decides",
        apply: |s, text| parse::mode(text).map(|v| s.config.unix_mode = Some(v)),
        show: |s| shown(s.config.unix_mode, |mode| format!("{mode:o}")),
        ..VALUE
    },
];

fn serve(settings: &mut Settings, service: Service, text: &str) -> Result<(), String> {
    // So a path can't have a question mark.
    let (endpoint, faults) = match text.split_once('?') {
        Some((endpoint, options)) => (endpoint, parse::from_str::<Faults>(options)?),
        None => (text, Faults::default()),
    };
    let endpoint = parse::from_str::<Endpoint>(endpoint)?;
    let config = &mut settings.config;
    config
        .faults
        .resize(config.services.len(), Faults::default());
    config.services.push((service, endpoint));
    config.faults.push(faults);
    Ok(())
}

fn served(settings: &Settings, service: Service) -> Vec<String> {
    let endpoints = settings.config.endpoints();
    endpoints
        .filter(|(of, ..)| *of == service)
        .map(|(_, endpoint, faults)| match faults {
            Some(faults) => format!("{endpoint}?{faults}"),
            None => endpoint.to_string(),
        })
        .collect()
}

/// The endpoints of all services form one list, so that `--discard` on the command line also
/// replaces the `echo` endpoints of a file.
fn clear_services(settings: &mut Settings) {
    settings.config.services.clear();
    settings.config.faults.clear();
}
