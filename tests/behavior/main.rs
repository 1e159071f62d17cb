//! The server's behaviour, one module for each aspect, tested from outside: the clients are plain
//! std sockets, and the server runs in this process or as the program `echod`.
//!
//! No test sleeps, uses a fixed port or limits the time of a step; each waits for a condition, and
//! a distant deadline turns a hang into a failure.

mod access;
mod admin;
mod back_pressure;
mod balance;
mod beginner;
mod bulk;
mod chargen;
mod churn;
mod command_line;
mod completions;
mod configuration;
mod costs;
mod descriptors;
mod discard;
mod drain;
mod echo;
mod fairness;
mod fault_options;
mod faults;
mod half_close;
mod handover;
mod healthcheck;
mod hostile;
mod incoming_cpu;
mod library;
mod limits;
mod logging;
mod max_connections;
mod memory;
mod policy_close;
mod proxy_protocol;
mod reload;
mod replacement;
mod reset;
mod sandbox;
mod support;
mod systemd;
mod tls;
mod udp;
mod unix;
mod urgent;
mod whoami;
