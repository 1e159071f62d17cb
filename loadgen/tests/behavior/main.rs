//! Behaviour of the load generator against real servers over real sockets: the echod it embeds, a
//! plain echo with a thread per connection, and servers that misbehave in one known way each.

mod accounts;
mod calibration;
mod faults;
mod formats;
mod identities;
mod known;
mod namespaces;
mod outputs;
mod program;
mod scenario;
mod schema;
mod screen;
mod search;
mod support;
mod timing;
mod truth;
mod truth_udp;
mod workloads;
