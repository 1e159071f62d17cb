//! Behaviour of the load generator against real servers over real sockets: the echod it embeds, a
//! plain echo with a thread per connection, and servers that misbehave in one known way each.

mod accounts;
mod faults;
mod program;
mod screen;
mod support;
mod timing;
