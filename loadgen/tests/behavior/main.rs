//! Behaviour of the load generator against real servers over real sockets: the echod it embeds, a
//! plain echo with a thread per connection, and servers that misbehave in one known way each.

mod accounts;
mod backends;
mod browser;
mod calibration;
mod compare;
mod completions;
mod contents;
mod costs;
mod deadlines;
mod delivery;
mod documents;
mod edges;
mod faults;
mod formats;
mod identities;
mod import;
mod known;
mod merge;
mod namespaces;
mod outputs;
mod program;
mod report;
mod scenario;
mod schema;
mod screen;
mod search;
mod server_side;
mod service;
mod shards;
mod support;
mod timing;
mod truth;
mod truth_udp;
mod watch;
mod workloads;
